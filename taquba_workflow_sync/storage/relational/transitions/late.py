"""pending / scheduled -> dead or cancelled, where a run's time is over; claimed: asked to stop."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.timing import Ends, Overrun, late_at
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.columns import RowCheck
from taquba_workflow_sync.storage.relational.data_errors import Culprit, blaming
from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import timing
from taquba_workflow_sync.storage.relational.transitions.end import end
from taquba_workflow_sync.storage.relational.transitions.member import is_asked_to_stop
from taquba_workflow_sync.storage.relational.transitions.stop import ask_to_stop
from taquba_workflow_sync.storage.relational.transitions.taken_back import note

#: The most runs that one transaction ends, or asks to stop.
LATE_LIMIT: Final = 500
_holds: Final = RowCheck(Held._fields)


def end_late(tx: Transaction, queue: int) -> None:
    """End the runs of a queue whose time is over; what is claimed is asked to stop. Once in a transaction."""
    if queue in tx.looked_for_late or not tx.queue(queue).timed:
        return
    tx.looked_for_late.add(queue)
    for seq, deadline_ms, expires_ms, is_late in tx.execute(sql.LATE, (queue, tx.now_ms, LATE_LIMIT)).fetchall():
        if seq in tx.unreadable:
            timing.stop(tx, seq, is_late=bool(is_late))  # it cannot be written: it must not be met again and again
            continue
        with blaming(Culprit(seq)):
            _end_late(tx, seq, Ends(deadline_ms, expires_ms), is_late=bool(is_late))


def _end_late(tx: Transaction, seq: int, ends: Ends, *, is_late: bool) -> None:
    row = tx.execute(sql.FIND_LATE, (seq,)).fetchone()
    late = late_at(tx.now_ms, ends)
    if row is None or late is None or not _holds(row):
        # Damage: a note of no active run, or one that says nothing. It must not be met again; a row that is invalid
        # is set aside by whatever meets it next.
        timing.stop(tx, seq, is_late=is_late)
        return
    held = Held._make(row)
    if held.status == JobStatus.CLAIMED:
        if held.cancel_requested:  # by a cancellation, which goes before
            timing.stop(tx, seq, is_late=is_late)
            return
        tx.transitions.add("request_stop")
        ask_to_stop(tx, held)
        timing.stop(tx, seq, is_late=True)
    elif is_asked_to_stop(tx, held):
        tx.transitions.add("cancel")
        note(tx, held, JobStatus.CANCELLED, "it was asked to stop")
        end(tx, held, JobStatus.CANCELLED, None)
    elif late.overrun is Overrun.DEADLINE:
        tx.transitions.add("exceed_deadline")
        note(tx, held, JobStatus.DEAD, late.why)
        end(tx, held, JobStatus.DEAD, None, error=late.why)
    else:
        tx.transitions.add("expire")
        note(tx, held, JobStatus.CANCELLED, late.why)
        end(tx, held, JobStatus.CANCELLED, None, error=late.why)
