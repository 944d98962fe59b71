"""A run that waits for a human, for days if it must, without holding a thread: ``ContinueAfter``.

    python examples/approval_delay.py              # a pretended human approves after a second
    python examples/approval_delay.py --by-hand    # you are the human

The first step asks for an approval. The next ones look whether it is there; if not, they end with ``ContinueAfter``,
and the run sleeps in the store, through restarts too, until the next look is due. After enough looks it gives up.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from taquba_workflow_sync import (
    Continue,
    ContinueAfter,
    Fail,
    Queue,
    RunSpec,
    Step,
    StepOutcome,
    Succeed,
    WorkflowRuntime,
)

LOOK_EVERY = 0.25  # seconds; minutes or hours in real life
MOST_LOOKS = 400


class ApprovalRunner:
    """Approving means that somebody makes a file named after the run in the inbox."""

    def __init__(self, inbox: Path) -> None:
        self.inbox = inbox

    def run_step(self, step: Step) -> StepOutcome:
        state = json.loads(step.payload)
        approval = self.inbox / step.run_id
        if state["looks"] == 0:
            print(f"step {step.step_number}: please approve: touch {approval}", flush=True)
            return Continue(to_json({**state, "looks": 1}))
        if approval.exists():
            print(f"step {step.step_number}: approved, transferring {state['amount']}")
            return Succeed(to_json(state))
        if state["looks"] >= MOST_LOOKS:
            return Fail("nobody approved in time")
        print(f"step {step.step_number}: not yet", flush=True)
        return ContinueAfter(to_json({**state, "looks": state["looks"] + 1}), LOOK_EVERY)


def to_json(value: object) -> bytes:
    return json.dumps(value).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description="Wait for an approval in a run that sleeps between its looks.")
    parser.add_argument("--store", type=Path, help="directory to keep the run in (default: a temporary one)")
    parser.add_argument("--by-hand", action="store_true", help="wait for you to approve")
    args = parser.parse_args()

    with ExitStack() as stack:
        store = args.store or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        inbox = store / "inbox"
        inbox.mkdir(parents=True, exist_ok=True)
        queue = stack.enter_context(Queue.open(store / "jobs"))
        runtime = stack.enter_context(WorkflowRuntime(queue, ApprovalRunner(inbox)))
        handle = runtime.submit(RunSpec(input=to_json({"amount": 250, "looks": 0})))
        if not args.by_hand:
            human = threading.Timer(1.0, (inbox / handle.run_id).touch)
            human.start()
            stack.callback(human.join)
        done = json.loads(handle.result())

    print(f"done after {done['looks']} looks")
    assert done["amount"] == 250
    assert args.by_hand or done["looks"] > 1


if __name__ == "__main__":
    main()
