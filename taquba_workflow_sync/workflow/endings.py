"""What has to be stored, and done, where a run may end: the part of a client that a hook changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from taquba_workflow_sync.errors import StorageError, TaqubaError
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.running import RUNNING
from taquba_workflow_sync.storage.port.cancellation import Cancellation, CancelOutcome
from taquba_workflow_sync.storage.port.claim import ClaimedRow, LaneClaim
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.settlement import Settlement

# A hook that `cancel` runs in line has no heartbeat; a killed process frees its claim whatever the lease says.
_INLINE_LEASE_MS: Final = 600_000


class Endings:
    """Cancels runs of one queue. ``lane`` and what follows are there if this process has a hook for them."""

    def __init__(
        self,
        handle: QueueHandle,
        queue_name: str,
        lane: str | None = None,
        deliver: Callable[[ClaimedRow], Settlement] | None = None,
        after_refusal: Callable[[ClaimedRow, Settlement, TaqubaError], Settlement | None] | None = None,
    ) -> None:
        self._handle = handle
        self._queue_name = queue_name
        self._lane = lane
        self._deliver = deliver
        self._after_refusal = after_refusal
        self._is_registered = False

    def register(self) -> None:
        """Register the hook, if there is one, before a run of the queue can end; once is enough."""
        if self._lane is None or self._is_registered:
            return
        config = self._handle.config_of(self._lane)
        self._handle.subscribe(self._queue_name, Subscription(self._lane, config.max_attempts, config.keep_dead_ms))
        self._is_registered = True

    def cancel(self, job_id: str, reason: str | None = None) -> bool:
        """Cancel a run; the hook of one that ended at once has been called on return. Whether there was one."""
        self.register()
        deliver = None if self._lane is None else LaneClaim(self._lane, _INLINE_LEASE_MS)
        cancellation = self._handle.cancel(job_id, deliver, reason)
        self._tell(cancellation)
        return cancellation.outcome is not CancelOutcome.NOT_FOUND

    def _tell(self, cancellation: Cancellation) -> None:
        row = cancellation.notification
        if row is None or self._deliver is None:
            return
        RUNNING.add(row.token, threading.Event())
        try:
            settlement = self._deliver(row)
            refusal = self._handle.settle(settlement)
            if refusal is not None and self._after_refusal is not None:
                other = self._after_refusal(row, settlement, refusal)
                refusal = refusal if other is None else self._handle.settle(other)
            if isinstance(refusal, StorageError):
                self._handle.abandoned_here.add(row.token)
        finally:
            RUNNING.discard(row.token)
