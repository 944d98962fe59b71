"""One handle on a store of dictionaries: each port method is one line, run as one commit or one look."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from taquba_workflow_sync.clock import SystemClock, clock_reader
from taquba_workflow_sync.errors import StoreClosedError
from taquba_workflow_sync.storage.port.cancellation import Cancellation
from taquba_workflow_sync.storage.port.changes import Changes, CommitListener, Leader
from taquba_workflow_sync.storage.port.claim import NOTHING_RUNS, ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.job import AttemptRow, Inserted, JobRow, NewJob
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.presence import Abandoned, RunningClaim
from taquba_workflow_sync.storage.port.reads import Counts, Filter, NextWork, RowPage
from taquba_workflow_sync.storage.port.settlement import Answer, Settlement
from taquba_workflow_sync.storage.port.store import OpenOptions, OpenStore, Store
from taquba_workflow_sync.wakeup import WakeUp
from tests.storage.memory import cancelling, claims, holding, jobs, maintenance, reads, reap, settlements, subscriptions
from tests.storage.memory.aside import aside
from tests.storage.memory.changes import ChangeRoom
from tests.storage.memory.places import Places
from tests.storage.memory.presence import Watcher
from tests.storage.memory.state import State
from tests.storage.memory.transaction import Transaction

_T = TypeVar("_T")


def opener() -> OpenStore:
    """Return an ``open_store`` whose stores are gone when it is."""
    places = Places()

    def open_store(address: str, options: OpenOptions) -> Store:
        return MemoryStore(places, address, options)

    return open_store


class MemoryStore:
    """Implements the port. Delays go by its clock; nothing outlives the process, and no fork is seen to."""

    def __init__(self, places: Places, address: str, options: OpenOptions) -> None:
        clock = options.clock or SystemClock()
        self._places = places
        self._place = places.at(address)
        self._now = clock_reader(clock)
        self._owner = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._watcher = Watcher(self._owner)
        self._changes = ChangeRoom(self._place, clock)
        self._is_closed = False
        aside(lambda: self._open(options))

    def _open(self, options: OpenOptions) -> None:
        place = self._place
        try:
            place.enter(self._owner, self._changes.notify, exclusive=options.is_exclusive, wait_s=options.wait_s)
        except BaseException:
            self._changes.close()
            raise
        if place.is_copy:
            self._commit(reap.take_back_all)
            place.is_copy = False

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreClosedError(f"the store at {self._place.address} was closed; open it again")

    def _write(self, change: Callable[[Transaction], _T]) -> _T:
        """Run a change on a copy of the state, and have all of it or, where it raises, nothing."""
        return aside(lambda: self._commit(change))

    def _commit(self, change: Callable[[Transaction], _T]) -> _T:
        now_ms = self._now()
        with self._place.lock:
            self._check_open()
            tx = Transaction(self._place.state, now_ms, self._owner)
            answer = change(tx)
            is_new = self._place.swap(tx.state)
            concerned = list(self._place.open_by.values()) if is_new else []
        for notify in concerned:
            notify()
        if is_new and (tx.woken or tx.ended):
            self._changes.tell(frozenset(tx.woken), frozenset(tx.ended))
        return answer

    def _state(self) -> State:
        """Return a state that no later commit changes."""
        self._check_open()
        return self._place.state

    # Transitions

    def insert(self, jobs_: Sequence[NewJob]) -> list[Inserted]:
        return self._write(lambda tx: jobs.insert(tx, jobs_))

    def settle_and_claim(
        self, settlements_: Sequence[Settlement], claims_: Sequence[ClaimRequest]
    ) -> tuple[list[Answer], list[ClaimedRow]]:
        def change(tx: Transaction) -> tuple[list[Answer], list[ClaimedRow]]:
            answers = settlements.settle_all(tx, settlements_)
            requests = [holding.widened(request, settlements_, answers) for request in claims_]
            return answers, [row for request in requests for row in claims.claim(tx, request)]

        return self._write(change)

    def token_after(self, token: str) -> str:
        return secrets.token_hex(12)

    def renew(self, tokens: Collection[str], lease_ms: int) -> tuple[int, frozenset[str]]:
        return self._write(lambda tx: claims.renew(tx, tokens, lease_ms))

    def cancel(
        self,
        job_id: str,
        *,
        abandoned: Abandoned | None = None,
        never_reap: Collection[str] = NOTHING_RUNS,
        deliver: LaneClaim | None = None,
    ) -> Cancellation:
        return self._write(lambda tx: cancelling.cancel(tx, job_id, abandoned, never_reap, deliver))

    def requeue(self, job_id: str, *, failed_run: bool = False) -> None:
        self._write(lambda tx: jobs.requeue(tx, job_id, failed_run=failed_run))

    # Subscriptions

    def subscribe(self, queue: str, subscription: Subscription) -> None:
        self._write(lambda tx: subscriptions.subscribe(tx, queue, subscription))

    def unsubscribe(self, queue: str, *, drop_from: str | None = None) -> int:
        return self._write(lambda tx: subscriptions.unsubscribe(tx, queue, drop_from))

    # Reads

    def get(self, job_id: str, *, with_payload: bool = True) -> JobRow | None:
        return reads.get(self._state(), self._now(), job_id, with_payload=with_payload)

    def find_run(self, queue: str, run_id: str) -> JobRow | None:
        return reads.find_run(self._state(), self._now(), queue, run_id)

    def page(self, queue: str, which: Filter, limit: int, cursor: str | None) -> RowPage:
        return reads.page(self._state(), self._now(), queue, which, limit, cursor)

    def ended(self, job_ids: Collection[str]) -> set[str]:
        return reads.ended(self._state(), job_ids)

    def counts(self) -> dict[str, Counts]:
        return reads.counts(self._state())

    def history(self, job_id: str) -> list[AttemptRow]:
        return reads.history(self._state(), job_id)

    def next_work(self, queue: str, *, retries_only: bool = False) -> NextWork:
        return reads.next_work(self._state(), self._now(), queue, retries_only=retries_only)

    # Presence

    def running(self) -> list[RunningClaim]:
        return reads.running(self._state(), self._owner)

    def abandoned_claims(self, *, suspect: str | None = None, own: Collection[str] = ()) -> Abandoned:
        return self._watcher.look(self._state(), self._now(), tuple(self._place.open_by), own)

    # Changes

    def wait_for_changes(self, since: object, timeout: float, wakeup: WakeUp) -> Changes:
        self._check_open()
        return self._changes.wait(since, timeout, wakeup)

    def on_commit(self, listener: CommitListener) -> AbstractContextManager[None]:
        self._check_open()
        return self._changes.on_commit(listener)

    def lead(self, on_waiting: Callable[[], None]) -> AbstractContextManager[Leader | None]:
        self._check_open()
        return self._changes.lead()

    # Maintenance

    def sweep(self) -> int:
        return self._write(maintenance.sweep)

    def backup(self, address: str) -> None:
        self._places.copy(self._state(), address)

    def check(self) -> list[str]:
        return maintenance.check(self._state())

    def unreadable(self) -> list[str]:
        return []

    def close(self) -> None:
        aside(self._close)

    def _close(self) -> None:
        with self._place.lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._place.leave(self._owner)
        self._changes.close()
