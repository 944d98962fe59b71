"""What queues and groups count, counted anew from what it is counted of."""

from __future__ import annotations

from typing import Any, Final

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.limiting import CLOSED
from taquba_workflow_sync.storage.relational.rows import GroupState, StoredGroup
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import member
from taquba_workflow_sync.storage.relational.transitions.wait import deliver_group

_GROUPS_AT_ONCE: Final = 1000


def flags_of(connection: Connection, queue: int) -> tuple[dict[str, Any], dict[str, int]]:
    """Return what a queue has of pauses, limits and counts of those, and what it must be.

    A pause is told by nothing else; one that cannot be read is none: damage must keep nothing from running.
    """
    read = connection.execute(sql.READ_FLAGS, (queue,)).fetchone()
    held = {
        name: value if kind == "integer" else f"damaged ({kind})"
        for name, value, kind in zip(sql.FLAGS, read[::2], read[1::2], strict=True)
    }
    right = dict(zip(sql.FLAGS[1:], connection.execute(sql.RIGHT_FLAGS, (queue,)).fetchone(), strict=True))
    return held, {"paused": held["paused"] if held["paused"] in CLOSED else 0, **right}


def recount_flags(tx: Transaction, queue: int) -> list[str]:
    """Put right what a queue counts beside its rows by status."""
    held, right = flags_of(tx.connection, queue)
    if held == right:
        return []
    tx.execute(sql.SET_FLAGS, (*right.values(), queue))
    tx.forget_queue(queue)
    return [f"what queue {tx.queue_name(queue)!r:.80} has of pauses and limits was {held}, counted anew as {right}"]


def recount_groups(tx: Transaction) -> list[str]:
    """Count the members of groups anew where their counters do not fit, and have those moved that nobody would move.

    A group none of whose members is open ends by it, and whoever waits for it is woken.
    """
    repaired: list[str] = []
    for number, name in tx.execute(sql.MISCOUNTED_GROUPS, (_GROUPS_AT_ONCE,)).fetchall():
        _look_again(tx, member.recount(tx, number))
        repaired.append(f"the counters of group {name!r:.140} (number {number}) were counted anew from its members")
    for number, name, first in tx.execute(sql.STUCK_GROUPS, (_GROUPS_AT_ONCE,)).fetchall():
        tx.execute(sql.MOVE_FROM, (first, first, number))
        member.set_work(tx, member.by_number(tx, number), True)
        repaired.append(f"members of group {name!r:.140} (number {number}) were held for ever, and are not any more")
    return repaired


def _look_again(tx: Transaction, group: StoredGroup) -> None:
    if group.state != GroupState.OPEN:
        return
    if group.has_ended:
        if group.ended_ms is None:
            member.end_group(tx, group)
    elif group.wakes and group.waiter is not None:
        deliver_group(tx, group.waiter, group.id)
