"""Bare claims: made one by one, without a loop; nobody renews them."""

from __future__ import annotations

import threading
import time
from typing import Final

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.records import Claim, damage_of, record_of_claim
from taquba_workflow_sync.queue.running import RUNNING
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.reads import DueIn, Ready
from taquba_workflow_sync.storage.port.settlement import DeadLetter, Settlement

# A dead owner's claims announce themselves by nothing: look again as often.
_LOOK_INTERVAL: Final = 0.5
_LEAST_WAIT: Final = 0.001


def claim_batch(handle: QueueHandle, queue_name: str, limit: int, lease_ms: int) -> list[Claim]:
    """Claim up to ``limit`` jobs in one commit; what is damaged becomes a dead letter and is not returned."""
    while True:
        request = ClaimRequest(
            (LaneClaim(queue_name, lease_ms),),
            limit,
            is_bare=True,
            abandoned=handle.abandoned_claims(),
            never_reap=RUNNING,
        )
        _, rows = handle.store.settle_and_claim((), [request])
        damaged = {row.token: damage for row in rows if (damage := damage_of(row)) is not None}
        if damaged:
            dead = [
                Settlement(row.id, row.token, DeadLetter(damaged[row.token])) for row in rows if row.token in damaged
            ]
            handle.store.settle_and_claim(dead, ())
        if not rows or len(damaged) < len(rows):
            return [_claim_of(row) for row in rows if row.token not in damaged]


def claim_by(handle: QueueHandle, queue_name: str, deadline: float, lease_ms: int) -> Claim | None:
    """Claim the first job in line, waiting for one until ``deadline`` by the monotonic clock."""
    with handle.waiters.work_in(queue_name) as waiter:
        while True:
            waiter.is_woken = False
            claims = claim_batch(handle, queue_name, 1, lease_ms)
            left = deadline - time.monotonic()
            if claims or left <= 0:
                return claims[0] if claims else None
            match handle.store.next_work(queue_name):
                case Ready():
                    continue
                case DueIn(ms=ms):
                    left = min(left, max(ms / 1000, _LEAST_WAIT))
                case None:
                    pass
            handle.waiters.sleep(waiter, min(left, _LOOK_INTERVAL))
            handle.check_open()


def lease_ms(handle: QueueHandle, queue_name: str, lease: Duration | None) -> int:
    """Return a checked lease in milliseconds, the queue's own for None."""
    if lease is None:
        return handle.config_of(queue_name).lease_ms
    return validation.duration_ms(lease, "lease", least=1)


def _claim_of(row: ClaimedRow) -> Claim:
    event = threading.Event()
    if row.cancel_requested:
        event.set()
    RUNNING.watch(row.token, event)
    return Claim(record_of_claim(row), row.token, event)
