"""A process that runs one step with a transaction of its own, and is killed at a point of it."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from taquba_workflow_sync import Continue, Queue, Step, Succeed, WorkflowRuntime
from taquba_workflow_sync.queue.opening import checked


def open_queue(url: str, failpoint: Any = None, **options: Any) -> Queue:
    """Open a store with a failpoint, which only a test may."""
    opening = checked(
        url,
        default_config=None,
        queue_configs=None,
        durability="full",
        exclusive=False,
        max_payload_bytes=1 << 20,
        wait=None,
        clock=None,
        failpoint=failpoint,
        **options,
    )
    return Queue(opening.open())


def pay(step: Step) -> Any:
    """Write a row with the end of the step."""
    with step.transaction() as connection:
        connection.execute("INSERT INTO mine VALUES (%s)", (f"{step.run_id} {step.step_number}",))
    return Succeed() if step.step_number else Continue(b"")


def main() -> None:
    url, point, nth = sys.argv[1:]
    passed = 0

    def at(name: str) -> None:
        nonlocal passed
        passed += name == point
        if passed == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)

    def run(step: Step) -> Any:
        outcome = pay(step)
        at("returned")
        return outcome

    with open_queue(url, at) as queue:
        WorkflowRuntime(queue, run, max_concurrent_steps=1).run_until_idle()


if __name__ == "__main__":
    main()
