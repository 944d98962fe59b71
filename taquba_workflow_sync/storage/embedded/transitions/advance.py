"""claimed -> pending or scheduled, one step on; singly or in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.overflow import INLINE_BYTES, Overflow
from taquba_workflow_sync.storage.embedded.transaction import FIRST_ATTEMPTS, Transaction
from taquba_workflow_sync.storage.embedded.transitions.fence import Held, _attempt_number, row_number
from taquba_workflow_sync.storage.port.settlement import Advance, Settlement
from taquba_workflow_sync.storage.port.status import JobStatus

_VALUES_LIMIT: Final = 64  # rows of one bulk advance; SQLite allows 32,766 variables, the statement cache likes few


_ADVANCE_MANY: Final = {
    size: sql.ADVANCE_MANY.format(values=",".join(["(?,?,?,?)"] * size)) for size in (1, 2, 4, 8, 16, 32, _VALUES_LIMIT)
}


def _advance(tx: Transaction, held: Held, token: str, action: Advance) -> None:
    due = tx.due_after(action.delay_ms)
    status = JobStatus.PENDING if due.due_ms is None else JobStatus.SCHEDULED
    place = held.place if action.keeps_place else tx.next_seq()
    payload, wide = tx.put_overflow(held.seq, Overflow.PAYLOAD, action.payload, held.wide)
    headers: bytes | str | None = held.headers
    if action.headers is not None:
        headers, wide = tx.put_overflow(held.seq, Overflow.HEADERS, action.headers, wide)
    tx.execute(sql.ADVANCE, (status, *due, place, payload, headers, wide, held.seq, token))
    tx.move(held.queue, JobStatus.CLAIMED, status)


def advance_many(tx: Transaction, settlements: Sequence[Settlement]) -> set[str]:
    """Advance all that need nothing special in one statement; returns the tokens advanced.

    The others (refused, or with wide parts) are left as they were, for :func:`settle`.
    """
    done: set[str] = set()
    for start in range(0, len(settlements), _VALUES_LIMIT):
        done |= _advance_chunk(tx, settlements[start : start + _VALUES_LIMIT])
    return done


def is_plain(settlement: Settlement) -> bool:
    """Whether :func:`advance_many` may try this one."""
    action = settlement.action
    return (
        type(action) is Advance
        and settlement.yields_to_cancel
        and action.headers is None
        and not action.delay_ms
        and len(action.payload) <= INLINE_BYTES
    )


def _advance_chunk(tx: Transaction, settlements: Sequence[Settlement]) -> set[str]:
    values: list[object] = []
    by_row: dict[int, Settlement] = {}
    for settlement in settlements:
        action = settlement.action
        assert isinstance(action, Advance)
        seq = row_number(settlement.token)
        if seq in by_row:
            continue  # a second settlement of one row cannot hold; the single way refuses it
        by_row[seq] = settlement
        values += (seq, settlement.token, action.payload, None if action.keeps_place else tx.next_seq())
    # Filled up to a power of two with rows that match nothing, so that few statements serve every size.
    size = 1 << (len(by_row) - 1).bit_length()
    values += (0, "", b"", None) * (size - len(by_row))
    rows = tx.execute(_ADVANCE_MANY[size], values).fetchall()
    attempts = []
    moved: dict[int, int] = {}
    for seq, ordinal, queue, step, claimed_ms in rows:
        attempt = _attempt_number(by_row[seq].token)
        attempts.append((seq, ordinal, step, attempt, claimed_ms, tx.now_ms, "continued", None))
        moved[queue] = moved.get(queue, 0) + 1
        if ordinal > FIRST_ATTEMPTS:
            tx.bound_history(seq, ordinal)
    if attempts:
        tx.transitions.add("advance")
        tx.connection.executemany(sql.ADD_ATTEMPT, attempts)
    for queue, many in moved.items():
        tx.move(queue, JobStatus.CLAIMED, JobStatus.PENDING, many)
    return {by_row[row[0]].token for row in rows}
