"""A worker process that dies by SIGKILL in the middle of a run, and a second one that goes on where it died.

    python examples/crash_resume.py

The program starts itself as a worker. That worker kills itself in the middle of step 5 of 10, after it has written its
line to a log and before the step has ended: the worst moment. A second worker on the same store goes on. The log shows
that no step that had ended ran again, and that the one in flight did, with ``attempts`` telling so.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path

from taquba_workflow_sync import Continue, Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowRuntime

STEPS = 10
DIES_AT = 5


class CountingRunner:
    def __init__(self, log: Path) -> None:
        self.log = log

    def run_step(self, step: Step) -> StepOutcome:
        print(f"  pid {os.getpid()}: step {step.step_number}, attempt {step.attempts}", flush=True)
        with self.log.open("a") as log:
            log.write(f"{step.step_number} {step.attempts}\n")
        if step.step_number == DIES_AT and step.attempts == 1:
            print("  kill -9", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if step.step_number == STEPS - 1:
            return Succeed(b"counted to ten")
        return Continue()


def work(store: Path, run_id: str) -> None:
    """Submit the run, or find it as an earlier worker left it, and run it to its end."""
    with (
        Queue.open(store / "jobs") as queue,
        WorkflowRuntime(queue, CountingRunner(store / f"{run_id}.log")) as runtime,
    ):
        handle = runtime.submit(RunSpec(run_id=run_id))
        print(f"  {handle.result(timeout=30).decode()}", flush=True)


def start_worker(store: Path, run_id: str) -> int:
    return subprocess.run([sys.executable, __file__, "--store", str(store), "--worker", run_id]).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill a worker in the middle of a run and go on with another.")
    parser.add_argument("--store", type=Path, help="directory to keep the run in (default: a temporary one)")
    parser.add_argument("--worker", metavar="RUN_ID", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.store, args.worker)
        return

    with ExitStack() as stack:
        store = args.store or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store.mkdir(parents=True, exist_ok=True)
        run_id = f"count-{uuid.uuid4().hex}"
        print("first worker", flush=True)
        died = start_worker(store, run_id)
        print(f"first worker ended by signal {-died}; second worker", flush=True)
        ended = start_worker(store, run_id)
        log = [tuple(map(int, line.split())) for line in (store / f"{run_id}.log").read_text().splitlines()]

    expected = [(step, 1) for step in range(DIES_AT + 1)] + [(DIES_AT, 2)] + [(s, 1) for s in range(DIES_AT + 1, STEPS)]
    print(f"steps that ran, in order: {[step for step, _ in log]}")
    assert died == -signal.SIGKILL and ended == 0
    assert log == expected, log
    print(f"only step {DIES_AT}, which was in flight, ran twice")


if __name__ == "__main__":
    main()
