"""A run that waits for a human's answer, which another process brings: ``ContinueOnSignal`` and ``client.signal``.

    python examples/human_approval.py              # a pretended human approves one transfer, and forgets the other
    python examples/human_approval.py --by-hand    # you are the human: type yes or no

The first step asks. Then the run is a row that waits: no thread, no looking. The answer wakes it at once, whichever
process sends it; if none comes in time, the next step is told so. The answer has an id, so that sending it twice, as
web forms and retries do, counts once.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from taquba_workflow_sync import (
    ContinueOnSignal,
    Fail,
    Queue,
    RunSpec,
    Step,
    StepOutcome,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)

PATIENCE = 2.0  # seconds; days in real life


class Transfer:
    """Transfers what a human has approved."""

    def run_step(self, step: Step) -> StepOutcome:
        if step.step_number == 0:
            print(f"{step.run_id}: may {step.payload.decode()} be transferred?", flush=True)
            return ContinueOnSignal(step.payload, "answer", timeout=PATIENCE)
        if step.signal is None:
            return Fail("nobody answered in time")
        if step.signal.payload != b"yes":
            return Fail(f"declined at {step.signal.sent_at:%H:%M}")
        print(f"{step.run_id}: approved, transferring {step.payload.decode()}", flush=True)
        return Succeed(step.payload)


def approve(store: Path, run_id: str, answer: str) -> None:
    """What a web view does, in a process of its own: it needs no runner, only the store."""
    with Queue.open(store) as queue:
        client = WorkflowClient(queue)
        for _ in range(2):  # a form that is sent twice
            outcome = client.signal(run_id, "answer", answer.encode(), signal_id=f"form-{run_id}")
            print(f"{run_id}: the answer is {outcome}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Wait for an answer in a run that sleeps until it comes.")
    parser.add_argument("--store", type=Path, help="directory to keep the runs in (default: a temporary one)")
    parser.add_argument("--by-hand", action="store_true", help="wait for you to answer")
    args = parser.parse_args()

    with ExitStack() as stack:
        store = args.store or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "jobs"
        queue = stack.enter_context(Queue.open(store))
        runtime = stack.enter_context(WorkflowRuntime(queue, Transfer()))
        first, second = (runtime.submit(RunSpec(input=amount)) for amount in (b"250", b"9000"))
        # It may come before the run waits for it: then it is buffered, and taken when the run asks.
        approve(store, first.run_id, input("yes or no? ") if args.by_hand else "yes")
        approved = first.wait()
        forgotten = second.wait()

    print(f"{first.run_id} is {approved.status}, {second.run_id} is {forgotten.status}: {forgotten.error}")
    assert args.by_hand or approved.result == b"250"
    assert forgotten.error == "nobody answered in time"


if __name__ == "__main__":
    main()
