"""Who is told of a queue's terminated runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Final

from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.rows import QueueRow, WaitingRow
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.belongings import drop

DROP_LIMIT: Final = 500


def is_subscribed(connection: Connection, queue: str, subscription: Subscription) -> bool:
    """Whether exactly this subscription is registered already."""
    row = connection.execute(sql.FIND_QUEUE, (queue,)).fetchone()
    if row is None:
        return False
    return bool(QueueRow._make(row).subscription == _text(subscription))


def subscribe(tx: Transaction, queue: str, subscription: Subscription) -> None:
    """Register who is told of the queue's terminated runs, from this commit on."""
    tx.transitions.add("subscribe")
    _register(tx, tx.make_queue(queue), _text(subscription))


def unsubscribe(tx: Transaction, queue: str, drop_from: str | None) -> int:
    """Tell nobody any more; remove up to 500 notifications that wait in ``drop_from``, and return how many."""
    number = tx.find_queue(queue)
    if number is not None:
        tx.transitions.add("unsubscribe")
        _register(tx, number, None)
    lane = None if drop_from is None else tx.find_queue(drop_from)
    return 0 if lane is None else _drop(tx, lane)


def _text(subscription: Subscription) -> str:
    return json.dumps(asdict(subscription), sort_keys=True)


def _register(tx: Transaction, number: int, text: str | None) -> None:
    tx.execute(sql.SUBSCRIBE, (text, number, text))
    tx.forget_queue(number)


def _drop(tx: Transaction, lane: int) -> int:
    found = tx.execute(sql.WAITING_IN_LINE, (lane, DROP_LIMIT)).fetchall()
    found += tx.execute(sql.WAITING_FOR_TIME, (lane, DROP_LIMIT - len(found))).fetchall()
    if found:
        tx.transitions.add("drop")
    for row in map(WaitingRow._make, found):
        tx.execute(sql.DELETE_WAITING, (row.seq,))
        drop(tx, row.seq, row.belongings)
        tx.count(lane, row.status, -1)
        tx.count(lane, "bare_waiting", -1)
    return len(found)
