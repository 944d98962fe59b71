"""claimed -> claimed, one step on under another token: the claim is kept where nothing waits that goes first."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final, NamedTuple

from taquba_workflow_sync.storage.port.limit import moved_rank
from taquba_workflow_sync.storage.port.settlement import Advance, Hold, Settlement, lets_go
from taquba_workflow_sync.storage.port.status import AttemptOutcome
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.overflow import Overflow, checksum, place
from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.transaction import FIRST_ATTEMPTS, Transaction
from taquba_workflow_sync.storage.relational.transitions import settings, timing
from taquba_workflow_sync.storage.relational.transitions.belongings import after_step, end_step
from taquba_workflow_sync.storage.relational.transitions.bulk import LIMIT, size_for, sized
from taquba_workflow_sync.storage.relational.transitions.fence import leave as leave_claim
from taquba_workflow_sync.storage.relational.transitions.fence import row_number
from taquba_workflow_sync.storage.relational.transitions.limit import goes_back
from taquba_workflow_sync.storage.relational.transitions.promote import promote


def token_after(token: str) -> str:
    """Return a new token of the same row, for its first attempt at the next step."""
    return f"{secrets.token_hex(6)}.1.{row_number(token)}"


def choose(tx: Transaction, settlements: Sequence[Settlement]) -> set[str]:
    """Return the tokens of those that need not be let go of, of settlements that have leave to hold."""
    by_lanes: dict[tuple[str, ...], list[_Asking]] = {}
    for settlement in settlements:
        leave = settlement.leave
        if leave is not None:
            by_lanes.setdefault(leave.lanes, []).append(_Asking(settlement, leave))
    return {each.settlement.token for lanes, group in by_lanes.items() for each in _choose(tx, lanes, group)}


class _Asking(NamedTuple):
    settlement: Settlement
    leave: Hold


def _choose(tx: Transaction, lanes: tuple[str, ...], group: Sequence[_Asking]) -> Sequence[_Asking]:
    """Return those that need not be let go of: the others make room for what goes first and has none."""
    room = group[0].leave.room
    queues = [queue for lane in lanes if (queue := tx.find_queue(lane)) is not None]
    if queues and goes_back(tx, lanes[-1]):
        return ()
    for queue in queues:
        about = tx.queue(queue)
        if about.scheduled > 0 or about.groups:
            promote(tx, queue)  # what is due waits, too, and what is to enter the line
    for queue in queues[:-1]:
        (waiting,) = tx.execute(tx.unreadable.pass_over(sql.WAITING), (queue, room + len(group))).fetchone()
        room -= waiting
        if room < 0:
            group, room = group[-room:], 0
    if not group or not queues:
        return group
    line = tx.execute(tx.unreadable.pass_over(sql.PAST_ROOM), (queues[-1], len(group), room)).fetchall()
    if not line:
        return group
    granted: list[_Asking] = []
    let_go = 0
    for asking in group:
        action = asking.settlement.action
        assert isinstance(action, Advance)
        if let_go < len(line) and lets_go(asking.leave, line[let_go], keeps_place=action.keeps_place):
            let_go += 1
        else:
            granted.append(asking)
    return granted


def hold(tx: Transaction, held: Held, settlement: Settlement) -> None:
    """claimed -> claimed, whatever the row carries.

    Raises:
        ClaimLostError: the claim is not held any more; nothing was written.
    """
    action, leave = settlement.action, settlement.leave
    assert isinstance(action, Advance) and leave is not None
    payload, belongings = place(Overflow.PAYLOAD, action.payload, held.belongings)
    # What the step had of its own is not the next one's, whoever asked for the claim to go on.
    planned = settings.of_next_step(tx, held, None) if action.settings is None else None
    values = (payload, checksum(action.payload), settings.bits(after_step(belongings), planned), leave.token, tx.now_ms)
    leave_claim(tx, "hold", sql.HOLD_ONE, values, held, settlement.token)
    tx.store_overflow(held.seq, Overflow.PAYLOAD, action.payload, held.belongings, belongings)
    end_step(tx, held.seq, held.belongings)
    settings.apply(tx, held, planned)
    settings.rename(tx, held.seq, action.settings)
    if planned is not None and planned[1].priority != held.priority:
        rank = moved_rank(held.rank, held.aging_ms, held.priority, planned[1].priority)
        tx.execute(sql.SET_RANK, (rank, held.seq))
    timing.wait(tx, held)
    tx.record_attempt(held, AttemptOutcome.CONTINUED, None)


def hold_many(tx: Transaction, settlements: Sequence[Settlement]) -> set[str]:
    """Hold all that need nothing special, of those that were chosen, in few statements; returns their old tokens."""
    held: set[str] = set()
    for start in range(0, len(settlements), LIMIT):
        held |= _hold_chunk(tx, settlements[start : start + LIMIT])
    return held


def _hold_chunk(tx: Transaction, settlements: Sequence[Settlement]) -> set[str]:
    values: list[object] = []
    tokens: dict[int, str] = {}
    labels: dict[int, bytes] = {}
    for settlement in settlements:
        action, leave = settlement.action, settlement.leave
        assert isinstance(action, Advance) and leave is not None
        seq = row_number(settlement.token)
        if seq in tokens:
            continue  # a second settlement of one row cannot hold; the single way refuses it
        tokens[seq] = settlement.token
        given = action.settings
        label = None if given is None or given.label is None else given.label.encode()
        if label is not None:
            labels[seq] = label
        values += (seq, settlement.token, action.payload, checksum(action.payload), leave.token, label)
    size = size_for(len(tokens))
    values += (0, "", b"", 0, "", None) * (size - len(tokens))
    values.append(tx.now_ms)
    tx.execute(_HISTORY[size], (*values, *tx.holder))
    held = tx.execute(_HOLD[size], values).fetchall()
    if held:
        tx.transitions.add("hold")
    if labels:
        _rename(tx, [(seq, labels[seq]) for seq, _ in held if seq in labels])
    for seq, ordinal in held:
        if ordinal > FIRST_ATTEMPTS:
            tx.bound_history(seq, ordinal - 1)
    return {tokens[seq] for seq, _ in held}


def _rename(tx: Transaction, named: Sequence[tuple[int, bytes]]) -> None:
    """Write what the next steps are called, of rows that go on."""
    if named:
        size = size_for(len(named))
        values: list[object] = [value for pair in named for value in pair]
        tx.execute(_RENAME[size], (*values, *((0, None) * (size - len(named)))))


_RENAME: Final = sized(sql.RENAME_MANY, sql.RENAME_VALUES)
_HISTORY: Final = sized(sql.HOLD_HISTORY, sql.HOLD_VALUES)
_HOLD: Final = sized(sql.HOLD, sql.HOLD_VALUES)
