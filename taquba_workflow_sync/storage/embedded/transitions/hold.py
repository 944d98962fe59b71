"""claimed -> claimed, one step on under another token: the claim is kept where nothing waits that goes first."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.overflow import Overflow, checksum, place
from taquba_workflow_sync.storage.embedded.rows import Held
from taquba_workflow_sync.storage.embedded.transaction import FIRST_ATTEMPTS, Transaction
from taquba_workflow_sync.storage.embedded.transitions.bulk import LIMIT, size_for, sized
from taquba_workflow_sync.storage.embedded.transitions.fence import leave as leave_claim
from taquba_workflow_sync.storage.embedded.transitions.fence import row_number
from taquba_workflow_sync.storage.embedded.transitions.promote import promote
from taquba_workflow_sync.storage.port.settlement import Advance, Settlement, lets_go
from taquba_workflow_sync.storage.port.status import AttemptOutcome


def token_after(token: str) -> str:
    """Return a new token of the same row, for its first attempt at the next step."""
    return f"{secrets.token_hex(6)}.1.{row_number(token)}"


def choose(tx: Transaction, settlements: Sequence[Settlement]) -> set[str]:
    """Return the tokens of those that need not be let go of, of settlements that have leave to hold."""
    by_lanes: dict[tuple[str, ...], list[Settlement]] = {}
    for settlement in settlements:
        if settlement.leave is not None:
            by_lanes.setdefault(settlement.leave.lanes, []).append(settlement)
    return {each.token for lanes, group in by_lanes.items() for each in _choose(tx, lanes, group)}


def _choose(tx: Transaction, lanes: tuple[str, ...], group: Sequence[Settlement]) -> Sequence[Settlement]:
    """Return those that need not be let go of: the others make room for what goes first and has none."""
    assert group[0].leave is not None
    room = group[0].leave.room
    queues = [queue for lane in lanes if (queue := tx.find_queue(lane)) is not None]
    for queue in queues:
        if tx.has_scheduled(queue):
            promote(tx, queue)  # what is due waits, too
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
    granted: list[Settlement] = []
    let_go = 0
    for settlement in group:
        action = settlement.action
        assert isinstance(action, Advance) and settlement.leave is not None
        if let_go < len(line) and lets_go(settlement.leave, line[let_go], keeps_place=action.keeps_place):
            let_go += 1
        else:
            granted.append(settlement)
    return granted


def hold(tx: Transaction, held: Held, settlement: Settlement) -> None:
    """claimed -> claimed, whatever the row carries.

    Raises:
        ClaimLostError: the claim is not held any more; nothing was written.
    """
    action, leave = settlement.action, settlement.leave
    assert isinstance(action, Advance) and leave is not None
    payload, overflow = place(Overflow.PAYLOAD, action.payload, held.overflow)
    values = (payload, checksum(action.payload), overflow, leave.token, tx.now_ms)
    leave_claim(tx, "hold", sql.HOLD_ONE, values, held, settlement.token)
    tx.store_overflow(held.seq, Overflow.PAYLOAD, action.payload, held.overflow, overflow)
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
    for settlement in settlements:
        action = settlement.action
        assert isinstance(action, Advance) and settlement.leave is not None
        seq = row_number(settlement.token)
        if seq in tokens:
            continue  # a second settlement of one row cannot hold; the single way refuses it
        tokens[seq] = settlement.token
        values += (seq, settlement.token, action.payload, checksum(action.payload), settlement.leave.token)
    size = size_for(len(tokens))
    values += (0, "", b"", 0, "") * (size - len(tokens))
    values.append(tx.now_ms)
    tx.execute(_HISTORY[size], values)
    held = tx.execute(_HOLD[size], values).fetchall()
    if held:
        tx.transitions.add("hold")
    for seq, ordinal in held:
        if ordinal > FIRST_ATTEMPTS:
            tx.bound_history(seq, ordinal - 1)
    return {tokens[seq] for seq, _ in held}


_HISTORY: Final = sized(sql.HOLD_HISTORY, sql.HOLD_VALUES)
_HOLD: Final = sized(sql.HOLD, sql.HOLD_VALUES)
