"""Who is told of ended runs; and what waits to be told, dropped when nobody is there any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.status import JobStatus
from tests.storage.memory.state import QueueRecord
from tests.storage.memory.transaction import Transaction
from tests.storage.memory.values import check_storable

_DROP_LIMIT: Final = 500


def subscribe(tx: Transaction, queue: str, subscription: Subscription) -> None:
    """Register who is told, from this commit on."""
    check_storable(queue, subscription.lane, subscription.max_attempts, subscription.keep_dead_ms)
    tx.state.queues[queue] = replace(tx.state.queues.get(queue, QueueRecord()), subscription=subscription)


def unsubscribe(tx: Transaction, queue: str, drop_from: str | None) -> int:
    """Tell nobody any more; remove what waits in the lane, in bounded pieces."""
    record = tx.state.queues.get(queue)
    if record is not None:
        tx.state.queues[queue] = replace(record, subscription=None)
    if drop_from is None:
        return 0
    waiting = tx.state.of_queue(drop_from, JobStatus.PENDING, JobStatus.SCHEDULED)[:_DROP_LIMIT]
    for row in waiting:
        tx.drop(row)
    return len(waiting)
