"""claimed -> pending or scheduled, one step on; singly or in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.overflow import Overflow, checksum, place
from taquba_workflow_sync.storage.embedded.rows import AdvancedRow, Attempt, Held
from taquba_workflow_sync.storage.embedded.transaction import FIRST_ATTEMPTS, Transaction
from taquba_workflow_sync.storage.embedded.transitions.bulk import LIMIT, size_for, sized
from taquba_workflow_sync.storage.embedded.transitions.fence import attempt_number, leave, row_number
from taquba_workflow_sync.storage.port.settlement import Advance, Settlement
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus


def advance(tx: Transaction, held: Held, token: str, action: Advance) -> None:
    """claimed -> pending / scheduled.

    Raises:
        ClaimLostError: the claim is not held any more; nothing was written.
    """
    due = tx.due_after(action.delay_ms)
    status = JobStatus.PENDING if due.due_ms is None else JobStatus.SCHEDULED
    in_line = held.place if action.keeps_place else tx.peek_seq()
    payload, overflow = place(Overflow.PAYLOAD, action.payload, held.overflow)
    headers: bytes | str | None = held.headers
    if action.headers is not None:
        headers, overflow = place(Overflow.HEADERS, action.headers, overflow)
    values = (
        status, *due, in_line, payload, checksum(action.payload), headers, checksum(action.headers), overflow
    )  # fmt: skip
    leave(tx, "advance", sql.ADVANCE, values, held, token)
    if not action.keeps_place:
        tx.next_seq()
    tx.store_overflow(held.seq, Overflow.PAYLOAD, action.payload, held.overflow, overflow)
    if action.headers is not None:
        tx.store_overflow(held.seq, Overflow.HEADERS, action.headers, held.overflow, overflow)
    tx.move(held.queue, JobStatus.CLAIMED, status)
    tx.record_attempt(held, AttemptOutcome.CONTINUED, None)


def advance_many(tx: Transaction, settlements: Sequence[Settlement]) -> set[str]:
    """Advance all that need nothing special, in few statements of the door; returns the tokens advanced."""
    done: set[str] = set()
    for start in range(0, len(settlements), LIMIT):
        done |= _advance_chunk(tx, settlements[start : start + LIMIT])
    return done


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
        in_line = None if action.keeps_place else tx.next_seq()
        values += (seq, settlement.token, action.payload, checksum(action.payload), in_line)
    size = size_for(len(by_row))
    values += (0, "", b"", 0, None) * (size - len(by_row))
    rows = [AdvancedRow._make(row) for row in tx.execute(_STATEMENTS[size], values).fetchall()]
    attempts: list[Attempt] = []
    moved: dict[int, int] = {}
    for row in rows:
        attempts.append(
            Attempt(
                job=row.seq,
                ordinal=row.ordinal,
                step=row.step - 1,
                attempt=attempt_number(by_row[row.seq].token),
                claimed_ms=row.claimed_ms,
                ended_ms=tx.now_ms,
                outcome=AttemptOutcome.CONTINUED,
                error=None,
            )
        )
        moved[row.queue] = moved.get(row.queue, 0) + 1
        if row.ordinal > FIRST_ATTEMPTS:
            tx.bound_history(row.seq, row.ordinal)
    if attempts:
        tx.transitions.add("advance")
        tx.connection.executemany(sql.ADD_ATTEMPT, attempts)
    for queue, many in moved.items():
        tx.move(queue, JobStatus.CLAIMED, JobStatus.PENDING, many)
    return {by_row[row.seq].token for row in rows}


_STATEMENTS: Final = sized(sql.ADVANCE_MANY, sql.ADVANCE_MANY_VALUES)
