"""claimed -> pending or scheduled, one step on; singly or in bulk."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from taquba_workflow_sync.clock import LAST_MS
from taquba_workflow_sync.storage.port.limit import moved_rank
from taquba_workflow_sync.storage.port.settlement import Advance, Settlement
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus
from taquba_workflow_sync.storage.port.wait import NEVER_MS
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.overflow import Overflow, checksum, place
from taquba_workflow_sync.storage.relational.rows import AdvancedRow, Held
from taquba_workflow_sync.storage.relational.transaction import FIRST_ATTEMPTS, Due, Transaction
from taquba_workflow_sync.storage.relational.transitions import settings, timing
from taquba_workflow_sync.storage.relational.transitions.belongings import after_step, end_step
from taquba_workflow_sync.storage.relational.transitions.bulk import LIMIT, size_for, sized
from taquba_workflow_sync.storage.relational.transitions.fence import check_held, leave, row_number
from taquba_workflow_sync.storage.relational.transitions.line import go_on, rank_at
from taquba_workflow_sync.storage.relational.transitions.wait import begin, look


def advance(tx: Transaction, held: Held, token: str, action: Advance, opens: Collection[str] = ()) -> None:
    """claimed -> pending / scheduled; it may wait for a group that its settlement opens.

    Raises:
        ClaimLostError: the claim is not held any more; nothing was written.
        GroupNotFoundError: it would wait for a group that there is none of; nothing was written.
        InvalidStateError: another run waits for that group; nothing was written.
    """
    due, wait = tx.due_after(action.delay_ms), None
    if action.wait is not None:
        check_held(held, token)  # who has lost the claim is told that, whatever became of the group
        due, wait = look(tx, held.seq, held.belongings, action.wait, opens)
    status = JobStatus.PENDING if due.due_ms is None else JobStatus.SCHEDULED
    in_line = held.place if action.keeps_place else tx.peek_seq()
    payload, belongings = place(Overflow.PAYLOAD, action.payload, held.belongings)
    headers: bytes | str | None = held.headers
    if action.headers is not None:
        headers, belongings = place(Overflow.HEADERS, action.headers, belongings)
    planned = settings.of_next_step(tx, held, action.settings)
    belongings = settings.bits(after_step(belongings), planned) | (0 if wait is None else Belonging.WAIT)
    values = (
        status, *due, in_line, payload, checksum(action.payload), headers, checksum(action.headers), belongings
    )  # fmt: skip
    leave(tx, "advance", sql.ADVANCE, values, held, token)
    if not action.keeps_place:
        tx.next_seq()
    tx.store_overflow(held.seq, Overflow.PAYLOAD, action.payload, held.belongings, belongings)
    if action.headers is not None:
        tx.store_overflow(held.seq, Overflow.HEADERS, action.headers, held.belongings, belongings)
    end_step(tx, held.seq, held.belongings)
    if wait is not None:
        begin(tx, held.seq, wait)
    settings.apply(tx, held, planned)
    _set_rank(tx, held, action, held.priority if planned is None else planned[1].priority, due)
    timing.wait(tx, held)
    tx.move_row(held, status)
    tx.record_attempt(held, AttemptOutcome.CONTINUED, None)
    go_on(tx, held, status)


def _set_rank(tx: Transaction, held: Held, action: Advance, priority: int, due: Due) -> None:
    """Have the next step stand in line by its priority, behind what has waited longer where priorities age.

    A wait without an end ends by what it is for, as which the row then enters the line.
    """
    if held.aging_ms is None or action.keeps_place:
        rank = moved_rank(held.rank, held.aging_ms, held.priority, priority)
    else:
        rank = rank_at(tx, priority, held.aging_ms, LAST_MS if due.due_ms == NEVER_MS else due.run_at_ms)
    if rank != held.rank:
        tx.execute(sql.SET_RANK, (rank, held.seq))


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
    tx.execute(_HISTORY[size], (*values, tx.now_ms, *tx.holder))
    rows = [AdvancedRow._make(row) for row in tx.execute(_STATEMENTS[size], values).fetchall()]
    moved: dict[int, int] = {}
    for row in rows:
        moved[row.queue] = moved.get(row.queue, 0) + 1
        if row.run_id is None:
            tx.count(row.queue, "bare_claimed", -1)
            tx.count(row.queue, "bare_waiting", 1)
        if row.ordinal > FIRST_ATTEMPTS:
            tx.bound_history(row.seq, row.ordinal)
    if rows:
        tx.transitions.add("advance")
    for queue, many in moved.items():
        tx.move(queue, JobStatus.CLAIMED, JobStatus.PENDING, many)
    return {by_row[row.seq].token for row in rows}


_HISTORY: Final = sized(sql.ADVANCE_HISTORY, sql.ADVANCE_MANY_VALUES)
_STATEMENTS: Final = sized(sql.ADVANCE_MANY, sql.ADVANCE_MANY_VALUES)
