"""done, dead, cancelled -> gone, because an operator says so and not because of their age."""

from __future__ import annotations

from collections.abc import Iterable

from taquba_workflow_sync.errors import InvalidStateError, JobNotFoundError
from taquba_workflow_sync.storage.port.operators import Piece
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.overflow import INLINE_BYTES
from taquba_workflow_sync.storage.relational.rows import FinishedRow
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.garbage import MOST_BYTES
from taquba_workflow_sync.storage.relational.transitions.many import still_fits
from taquba_workflow_sync.storage.relational.transitions.sweep import remove_row


def remove(tx: Transaction, job_id: str) -> None:
    """Remove a dead job.

    Raises:
        JobNotFoundError: there is no such job.
        InvalidStateError: it is not dead, or a member of a group.
    """
    found = tx.execute(sql.FIND_FINISHED, (job_id,)).fetchone()
    if found is None:
        raise JobNotFoundError(f"there is no job {job_id!r}")
    row = FinishedRow._make(found)
    if row.status != JobStatus.DEAD:
        raise InvalidStateError(f"job {job_id} is {row.status}; only a dead job can be dropped")
    if row.belongings & Belonging.MEMBER:
        raise InvalidStateError(f"job {job_id} is a member of a group and goes with it; forget the group")
    remove_row(tx, row)


def remove_some(tx: Transaction, which: Filter, found: Iterable[tuple[int, str]], next_cursor: str | None) -> Piece:
    """Remove what was found, if it still fits and has ended; members of groups go with their group.

    So many bytes at most: what is removed is written to the log, which must not need as much again as it frees.
    """
    removed, size, last = 0, 0, 0
    for seq, job_id in found:
        if size >= MOST_BYTES:
            return Piece(removed, [], str(last))  # whoever goes on begins after it
        last = seq
        belongings = still_fits(tx, which, seq)
        if belongings is None or belongings & Belonging.MEMBER:
            continue
        row = tx.execute(sql.FIND_FINISHED, (job_id,)).fetchone()
        if row is None:
            continue  # its id is damaged: nobody can name it
        finished = FinishedRow._make(row)
        if finished.status in (JobStatus.DONE, JobStatus.DEAD, JobStatus.CANCELLED):
            (large,) = tx.execute(sql.OVERFLOW_BYTES, (seq * 4, seq * 4 + 3)).fetchone()
            size += INLINE_BYTES + large
            remove_row(tx, finished)
            removed += 1
    return Piece(removed, [], next_cursor)
