"""A worker process to be robbed of its files: runs what is submitted, and submits a run for each line it is told."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from pathlib import Path

from taquba_workflow_sync import (
    Continue,
    ContinueAfter,
    Queue,
    Step,
    StepOutcome,
    Succeed,
    TaqubaError,
    WorkflowRuntime,
)
from tests.processes.harness import say, say_when_ready


def run_step(step: Step) -> StepOutcome:
    """End at once; a run called busy never does."""
    if step.run_id == "busy":
        return ContinueAfter(b"", 0.02)
    return Succeed(step.payload) if step.step_number else Continue(step.payload)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--user", type=int, default=os.getuid())
    options = parser.parse_args()
    if options.user != os.getuid():
        # What Python imports late it would look for without the rights to read it: so once through everything.
        with Queue.temporary(durability="relaxed") as queue:
            runtime = WorkflowRuntime(queue, run_step)
            runtime.submit()
            runtime.run_until_idle()
        os.setgroups([])
        os.setgid(options.user)
        os.setuid(options.user)
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s")
    with Queue.open(options.store, durability="relaxed") as queue:
        runtime = WorkflowRuntime(queue, run_step, poll_interval=0.05)
        threading.Thread(target=submit_what_is_told, args=(runtime,), daemon=True).start()
        runtime.run(handle_signals=True)
    say("ended")
    os._exit(0)  # a thread that reads the standard input cannot be ended


def submit_what_is_told(runtime: WorkflowRuntime) -> None:
    """Submit a run of each name that is told, wait for its end, and say how that went."""
    say_when_ready()
    for line in sys.stdin:
        name = line.strip()
        try:
            handle = runtime.submit(run_id=name)
            if name != "busy":
                handle.wait(5)
            say("answer", name, "well")
        except (TaqubaError, TimeoutError) as error:
            say("answer", name, type(error).__name__, str(error).replace("\n", " "))
        except BaseException as error:
            say("answer", name, "BAD", repr(error))


if __name__ == "__main__":
    main()
