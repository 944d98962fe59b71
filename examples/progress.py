"""Watching runs: how far a step is, how many runs there are, what happened to one, and what an operator does about it.

    python examples/progress.py

A step that takes long says how far it is with ``step.progress``; whoever has the store open sees it in the run's
status. ``count_runs`` tells how many runs are in each state, ``history`` what happened to one of them. Two runs fail on
a file that is not there; once it is, ``retry_many`` has all that failed so go on.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from taquba_workflow_sync import (
    Continue,
    Fail,
    Queue,
    RunSpec,
    RunState,
    Step,
    StepOutcome,
    Succeed,
    WorkflowRuntime,
)

ROWS = 400


class Loader:
    """Loads a file row by row, a pause after the first half so that somebody can look."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.is_halfway = threading.Event()
        self.has_been_seen = threading.Event()

    def run_step(self, step: Step) -> StepOutcome:
        if step.step_number == 0:
            return Continue(step.payload)
        path = self.directory / step.payload.decode()
        if not path.exists():
            return Fail(f"{path.name} is not there")
        rows = path.read_text().splitlines()
        for number in range(len(rows)):
            step.progress(number, len(rows), f"loading {path.name}")
            if number == len(rows) // 2:
                self.is_halfway.set()
                self.has_been_seen.wait(10)
        return Succeed(f"{len(rows)} rows".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="See how far a run is, what happened to it, and retry what failed.")
    parser.add_argument("--store", type=Path, help="directory to keep the runs in (default: a temporary one)")
    args = parser.parse_args()

    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (directory / "airports.csv").write_text("a row\n" * ROWS)
        loader = Loader(directory)
        queue = stack.enter_context(Queue.open(args.store or directory / "store"))
        runtime = stack.enter_context(WorkflowRuntime(queue, loader))

        print(f"loading {ROWS} rows; before: 0 of {ROWS}")
        run = runtime.submit(RunSpec(input=b"airports.csv", headers={"tenant": "north"}))
        assert loader.is_halfway.wait(10)
        pause, progress = threading.Event(), None
        while progress is None or progress.done < ROWS // 2:
            pause.wait(0.05)
            status = run.status()
            progress = status and status.progress
        print(f"{progress.note}: {progress.done} of {progress.total}")
        running = runtime.count_runs()
        print(f"now: running {running[RunState.RUNNING]}, pending {running[RunState.PENDING]}")
        loader.has_been_seen.set()
        print(f"result: {run.result(timeout=10).decode()}")

        late = [runtime.submit(run_id=f"load-{n}", input=b"late.csv", headers={"tenant": "south"}) for n in range(2)]
        for each in late:
            each.wait(timeout=10)
        failed = runtime.list_runs(RunState.FAILED, prefix="load-", header=("tenant", "south"))
        print(f"failed: {[(each.run_id, each.error) for each in failed.runs]}")

        (directory / "late.csv").write_text("a row\n" * 3)
        print(f"the file is there now; retried: {runtime.retry_many(failed_with='is not there')}")
        for each in late:
            assert each.result(timeout=10) == b"3 rows"

        print(f"history of {late[0].run_id}:")
        for event in runtime.history(late[0].run_id):
            what = ", ".join(str(each) for each in (event.outcome, event.error, event.detail) if each)
            print(f"  {event.at:%H:%M:%S} step {event.step} {event.kind} {what}")


if __name__ == "__main__":
    main()
