"""Many runs cancelled or retried, a bounded number in each transaction; each is looked at again in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from taquba_workflow_sync.errors import InvalidStateError, JobNotFoundError
from taquba_workflow_sync.storage.port.cancellation import CancelOutcome
from taquba_workflow_sync.storage.port.operators import Piece
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.conditions import conditions
from taquba_workflow_sync.storage.relational.overflow import INLINE_BYTES, Overflow
from taquba_workflow_sync.storage.relational.rows import FinishedRow
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.cancel import cancel
from taquba_workflow_sync.storage.relational.transitions.garbage import MOST_BYTES
from taquba_workflow_sync.storage.relational.transitions.requeue import group_of, is_active_again, put_back

#: What a row may have written of large headers, which a notification carries: the most that a submit takes, and a bit.
_LARGE: Final = 66_000


def cancel_some(
    tx: Transaction,
    which: Filter,
    found: Sequence[tuple[int, str]],
    next_cursor: str | None,
    reason: str | None,
    abandoned: Abandoned | None,
    never_reap: Collection[str],
) -> Piece:
    """Cancel what was found, if it still fits."""
    changed, tokens, size = 0, [], 0
    for seq, job_id in found:
        if size >= MOST_BYTES:
            break
        next_seq = seq
        belongings = still_fits(tx, which, seq)
        if belongings is None:
            continue
        size += _LARGE if belongings & 1 << Overflow.HEADERS else INLINE_BYTES
        cancellation = cancel(tx, job_id, abandoned, never_reap, None, reason)
        if cancellation.outcome is not CancelOutcome.NOT_FOUND:
            changed += 1
        if cancellation.token is not None:
            tokens.append(cancellation.token)
    else:
        return Piece(changed, tokens, next_cursor)
    return Piece(changed, tokens, str(next_seq))


def retry_some(tx: Transaction, which: Filter, found: Iterable[tuple[int, str]], next_cursor: str | None) -> Piece:
    """Retry what was found, if it still fits and is the newest of its name."""
    changed = 0
    for seq, job_id in found:
        if still_fits(tx, which, seq) is None:
            continue
        row = tx.execute(sql.FIND_FINISHED, (job_id,)).fetchone()
        if row is None:
            continue  # its id is damaged: nobody can name it
        row = FinishedRow._make(row)
        if tx.execute(sql.NEWEST_LIFE, (seq,)).fetchone() == (seq,) and not is_active_again(tx, row):
            try:
                of_group = group_of(tx, row, job_id)
            except (InvalidStateError, JobNotFoundError):
                continue  # its group is being cancelled, or removed
            put_back(tx, row, of_group, failed_run=True)
            changed += 1
    return Piece(changed, [], next_cursor)


def still_fits(tx: Transaction, which: Filter, seq: int) -> int | None:
    """Return what belongs to a row that the filter lets through, or None."""
    where, values = conditions(which, tx.now_ms)
    row = tx.execute(sql.STILL_FITS.format(where=where), (seq, *values)).fetchone()
    return None if row is None else row[0]
