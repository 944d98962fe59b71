"""Waiting for the end of a run, in whichever process it comes."""

from __future__ import annotations

import os
import time
from typing import Final

from taquba_workflow_sync.errors import RunNotFoundError
from taquba_workflow_sync.outcome import RunOutcome
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.running import RUNNING
from taquba_workflow_sync.workflow.status import outcome_of

_LONGEST_WAIT: Final = 1.0


def refuse_endless_wait(handle: QueueHandle, queue_name: str) -> None:
    """Refuse to wait for ever where that may need the very thread that waits: inside a step or hook of the queue.

    Raises:
        RuntimeError: the calling thread runs one, of this queue of this store, whichever handle it was opened by.
    """
    for inside in RUNNING.here():
        if inside.queue == queue_name and os.path.realpath(inside.address) == os.path.realpath(handle.address):
            raise RuntimeError(
                "wait without a timeout from a step or hook of the same queue can wait for ever: the run may need"
                " the very thread that waits; give a timeout, or end with ContinueAfter and look again"
            )


def wait_for_end(handle: QueueHandle, run_id: str, job_id: str, limit: float | None) -> RunOutcome:
    """Block until the job has ended, at most ``limit`` seconds, and return how.

    Raises:
        TimeoutError: it has not ended by then.
        RunNotFoundError: its row is gone.
    """
    began = time.monotonic()
    was_woken = False
    while True:
        # Anew each time: whoever told of an end has struck the waiters off, and the run may have been retried since.
        with handle.waiters.end_of(job_id) as waiter:
            row = handle.get(job_id, with_payload=was_woken)
            if row is not None and row.finished_ms is not None and not was_woken:
                row = handle.get(job_id)
            if row is None:
                raise RunNotFoundError(f"run {run_id!r} (job {job_id}) is not stored any more")
            if row.finished_ms is not None:
                return outcome_of(row)
            left = _LONGEST_WAIT if limit is None else began + limit - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"run {run_id!r} has not ended within {limit} s; it goes on")
            handle.waiters.sleep(waiter, min(left, _LONGEST_WAIT))
            was_woken = waiter.is_woken
