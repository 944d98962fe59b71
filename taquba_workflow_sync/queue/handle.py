"""An open store as the floors above may use it: the one object they share."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn, Protocol

from taquba_workflow_sync.errors import StoreClosedError, TaqubaError
from taquba_workflow_sync.failpoints import Failpoint
from taquba_workflow_sync.queue.config import QueueConfig
from taquba_workflow_sync.queue.features import Features
from taquba_workflow_sync.queue.group_handle import GroupHandle
from taquba_workflow_sync.queue.own_handle import OwnHandle
from taquba_workflow_sync.queue.paging import page_of
from taquba_workflow_sync.queue.running import RUNNING
from taquba_workflow_sync.queue.waiters import Waiters
from taquba_workflow_sync.storage.port.cancellation import Cancellation
from taquba_workflow_sync.storage.port.claim import LaneClaim
from taquba_workflow_sync.storage.port.job import Inserted, JobRow, NewJob
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.operators import Piece
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.reads import Counts, Filter, RowPage
from taquba_workflow_sync.storage.port.settlement import Ongoing, Settlement
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.store import Store

_PROBE_INTERVAL: Final = 0.5
_CLOSE_PATIENCE: Final = 10.0
_JOIN_TICK: Final = 0.02
_DROP_LIMIT: Final = 500


class Loop(Protocol):
    """What keeps a store open past its close: a dispatcher, as the handle sees it."""

    on_end: Callable[[], None] | None

    @property
    def has_work(self) -> bool:
        """Whether anything that it claimed is still unsettled."""
        ...

    def ask_to_stop(self) -> None:
        """Have it stop; returns at once."""
        ...

    def join(self, timeout: float | None) -> bool:
        """Wait for its end; whether it came."""
        ...


class QueueHandle(Features, GroupHandle, OwnHandle):
    """One open store with the configuration of its queues; after ``close``, everything raises ``StoreClosedError``.

    ``abandoned_here`` are tokens of this handle whose steps have ended and whose ends could not be stored: their
    attempts count, unlike those of claims that never began.
    """

    def __init__(
        self,
        store: Store,
        *,
        default_config: QueueConfig,
        queue_configs: Mapping[str, QueueConfig],
        max_payload_bytes: int,
        address: str,
        failpoint: Failpoint | None,
    ) -> None:
        self.address = address
        self.max_payload_bytes = max_payload_bytes
        self.failpoint = failpoint
        self.abandoned_here: set[str] = set()
        self.is_closed: bool = False
        self._store = store
        self._default_config = default_config
        self._queue_configs = dict(queue_configs)
        self._loops: set[Loop] = set()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._abandoned: Abandoned | None = None
        self._next_probe = 0.0
        self._on_closed: Callable[[], None] | None = None
        self.waiters: Waiters = Waiters(store, lambda: self.is_closed)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"an open store cannot be pickled; pickle its path and open it there: {self.address}")

    def config_of(self, queue_name: str) -> QueueConfig:
        """Return the configuration of a queue."""
        return self._queue_configs.get(queue_name, self._default_config)

    @property
    def store(self) -> Store:
        """The open store, for this floor alone; checked to be open."""
        self.check_open()
        return self._store

    def check_open(self) -> None:
        """Refuse if it was closed.

        Raises:
            StoreClosedError: it was.
        """
        if self.is_closed:
            raise StoreClosedError(f"the queue at {self.address} was closed; open it again")

    def insert(self, jobs: Sequence[NewJob]) -> list[Inserted]:
        """Put jobs in, in one commit, all or none; durable on return."""
        return self.store.insert(jobs) if jobs else []

    def settle(self, settlement: Settlement) -> TaqubaError | None:
        """End one claim; returns why that was refused, or None."""
        ((answer,), _) = self.store.settle_and_claim([settlement], ())
        assert not isinstance(answer, Ongoing), "nobody but a dispatcher holds a claim"
        return answer

    def cancel(self, job_id: str, deliver: LaneClaim | None = None, reason: str | None = None) -> Cancellation:
        """Cancel a waiting job, or ask its claim to stop, in whichever process; see :meth:`Transitions.cancel`."""
        row = self.store.get(job_id, with_payload=False)
        abandoned = None
        if row is not None and row.status is JobStatus.CLAIMED:
            abandoned = self.abandoned_claims(suspect=row.owner)
        cancellation = self.store.cancel(
            job_id, reason=reason, abandoned=abandoned, never_reap=RUNNING, deliver=deliver
        )
        if cancellation.token is not None:
            RUNNING.cancel(cancellation.token)
        return cancellation

    def abandoned_claims(self, *, suspect: str | None = None) -> Abandoned | None:
        """Return the evidence that is known, looked for twice a second at most unless somebody is suspected."""
        now = time.monotonic()
        if suspect is not None or now >= self._next_probe:
            self._next_probe = now + _PROBE_INTERVAL
            self._abandoned = self.store.abandoned_claims(suspect=suspect)
        return self._abandoned

    def cancel_some(self, queue_name: str, which: Filter, cursor: str | None, reason: str | None) -> Piece:
        """Cancel some runs, or ask their claims to stop; see :meth:`Operators.cancel_some`."""
        abandoned = self.abandoned_claims()
        piece = self.store.cancel_some(
            queue_name, which, cursor, reason=reason, abandoned=abandoned, never_reap=RUNNING
        )
        for token in piece.tokens:
            RUNNING.cancel(token)
        return piece

    def retry_some(self, queue_name: str, which: Filter, cursor: str | None) -> Piece:
        """Put some failed runs back in line; see :meth:`Operators.retry_some`."""
        return self.store.retry_some(queue_name, which, cursor)

    def remove(self, job_id: str) -> None:
        """Remove a dead job."""
        self.store.remove(job_id)

    def remove_some(self, queue_name: str, which: Filter, cursor: str | None) -> Piece:
        """Remove some finished rows; see :meth:`Operators.remove_some`."""
        return self.store.remove_some(queue_name, which, cursor)

    def requeue(
        self, job_id: str, *, failed_run: bool = False, payload: bytes | None = None, clears_memo: bool = False
    ) -> None:
        """Put a dead job, or a run that failed, back in line."""
        self.store.requeue(job_id, failed_run=failed_run, payload=payload, clears_memo=clears_memo)

    def get(self, job_id: str, *, with_payload: bool = True) -> JobRow | None:
        """Return a stored job."""
        return self.store.get(job_id, with_payload=with_payload)

    def find_run(self, queue_name: str, run_id: str) -> JobRow | None:
        """Return the newest row of a run id, without large parts."""
        return self.store.find_run(queue_name, run_id)

    def page(
        self, queue_name: str, which: Filter, limit: object, cursor: object, *, with_payload: bool = True
    ) -> RowPage:
        """Return a page of rows, its arguments checked."""
        return self.store.page(queue_name, which, *page_of(limit, cursor), with_payload=with_payload)

    def counts(self, queue_name: str) -> Counts:
        """Return a queue's counters; all zero for one that was never used."""
        return self.store.counts().get(queue_name, Counts())

    def subscribe(self, queue_name: str, subscription: Subscription) -> None:
        """Register who is told of a queue's ended runs."""
        self.store.subscribe(queue_name, subscription)

    def unsubscribe(self, queue_name: str, *, drop_from: str | None) -> None:
        """End the registration; with ``drop_from``, remove what waits in that lane, in bounded commits."""
        while self.store.unsubscribe(queue_name, drop_from=drop_from) >= _DROP_LIMIT:
            pass

    def keep_open_for(self, loop: Loop) -> None:
        """Keep the store open for as long as ``loop`` runs, also past :meth:`close`."""
        with self._process_lock():
            self.check_open()
            self._loops.add(loop)

        def ended() -> None:
            with self._process_lock():
                self._loops.discard(loop)
            self._close_if_unused()

        loop.on_end = ended

    @property
    def has_loops(self) -> bool:
        """Whether anything runs on this handle."""
        return bool(self._loops)

    def close(self, on_closed: Callable[[], None] | None = None) -> None:
        """Stop what runs and close; a step that does not return keeps the store open, unreachable, until it ends.

        ``on_closed`` is called once the store is closed, now or then.
        """
        with self._process_lock():
            if self.is_closed:
                return
            self.is_closed = True
            self._on_closed = on_closed
            loops = list(self._loops)
        self.waiters.wake()
        for loop in loops:
            loop.ask_to_stop()
        deadline = time.monotonic() + _CLOSE_PATIENCE
        for loop in loops:
            while not loop.join(_JOIN_TICK) and not loop.has_work and time.monotonic() < deadline:
                pass
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        with self._process_lock():
            if not self.is_closed or self._loops:
                return
            on_closed, self._on_closed = self._on_closed, None
        self._store.close()
        if on_closed is not None:
            on_closed()

    def _process_lock(self) -> threading.Lock:
        if self._pid != os.getpid():
            # A forked child: the parent's loops and the thread that may have held the lock are not here.
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._loops = set()
        return self._lock
