"""What ends for the limits of runs, and what is asked to stop."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.timing import Overrun
from tests.storage.memory.ending import end
from tests.storage.memory.timing import is_to_be_ended, late_of, next_end
from tests.storage.memory.transaction import Transaction

_LIMIT: Final = 500


def end_late(tx: Transaction, queue: str) -> None:
    """End what waits and is late; ask what runs to stop."""
    late = [row for row in tx.state.of_queue(queue) if is_to_be_ended(row, tx.now_ms)]
    for found in sorted(late, key=lambda row: next_end(row) or 0)[:_LIMIT]:
        row = tx.state.rows.get(found.id)
        if row is None or row.finished_ms is not None:
            continue  # the end of one before has ended it
        limit = late_of(row, tx.now_ms)
        if row.held is not None:
            tx.put(replace(row, cancel_requested=True, is_late=True))
        elif row.cancel_requested and not row.is_late:
            tx.note_taken_back(row, JobStatus.CANCELLED, "it was asked to stop")
            end(tx, row, JobStatus.CANCELLED)
        elif limit is not None:
            target = JobStatus.DEAD if limit.overrun is Overrun.DEADLINE else JobStatus.CANCELLED
            tx.note_taken_back(row, target, limit.why)
            end(tx, row, target, error=limit.why)
