"""Cancelling runs: one that is in the middle of a long step, and one that has not begun.

    python examples/cancel.py

Python cannot stop a thread, so a long step looks at ``step.cancel_token`` now and then. It is a ``threading.Event``:
waiting on it is a pause that a cancellation ends. A run that is still waiting for its turn is cancelled at once, and
its step never runs. ``cancel`` works from every process that has the store open, here it is called in the same one.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from taquba_workflow_sync import (
    Cancel,
    Queue,
    RunCancelledError,
    RunSpec,
    Step,
    StepOutcome,
    Succeed,
    TerminalStatus,
    WorkflowRuntime,
)

PAGES = 10_000


class Crawler:
    """Fetches pages for minutes, unless it is cancelled."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.runs_seen: list[str] = []

    def run_step(self, step: Step) -> StepOutcome:
        self.runs_seen.append(step.run_id)
        for page in range(PAGES):
            self.started.set()
            if step.cancel_token.wait(0.05):  # one page takes so long
                return Cancel(f"cancelled after {page} of {PAGES} pages")
        return Succeed(b"all pages")


def main() -> None:
    parser = argparse.ArgumentParser(description="Cancel a run in the middle of a step, and one that is waiting.")
    parser.add_argument("--store", type=Path, help="directory to keep the runs in (default: a temporary one)")
    args = parser.parse_args()

    crawler = Crawler()
    with ExitStack() as stack:
        store = args.store or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        queue = stack.enter_context(Queue.open(store))
        runtime = stack.enter_context(WorkflowRuntime(queue, crawler))

        running = runtime.submit(RunSpec())
        assert crawler.started.wait(10)
        print(f"run {running.run_id} is crawling; cancel: {running.cancel()}")
        outcome = running.wait(timeout=10)
        print(f"it ended as {outcome.status}: {outcome.error}")
        assert outcome.status is TerminalStatus.CANCELLED
        assert outcome.error is not None and outcome.error.startswith("cancelled after")

        waiting = runtime.submit(RunSpec(run_at=datetime.now(UTC) + timedelta(hours=1)))
        print(f"run {waiting.run_id} is due in an hour; cancel: {waiting.cancel()}")
        try:
            waiting.result(timeout=10)
        except RunCancelledError as error:
            print(f"it ended as {error.outcome.status}, and its step never ran")
        print(f"cancelled again: {waiting.cancel()}")
        assert not waiting.cancel()

    assert crawler.runs_seen == [running.run_id]


if __name__ == "__main__":
    main()
