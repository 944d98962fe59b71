"""Who is told of a queue's terminated runs."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.port.notification import Subscription


def _text(subscription: Subscription) -> str:
    return json.dumps(asdict(subscription), sort_keys=True)


def is_subscribed(connection: sqlite3.Connection, queue: str, subscription: Subscription) -> bool:
    """Whether exactly this observer is registered already."""
    row = connection.execute(sql.FIND_QUEUE, (queue,)).fetchone()
    return row is not None and row[1] == _text(subscription)


def subscribe(tx: Transaction, queue: str, subscription: Subscription) -> None:
    """Register who is told of the queue's terminated runs, from this commit on."""
    text = _text(subscription)
    number = tx.make_queue(queue)
    tx.transitions.add("observe")
    tx.execute(sql.SUBSCRIBE, (text, number, text))
    tx.forget_subscription(number)
