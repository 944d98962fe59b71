"""What every engine with these transitions has in common: each method one transaction, or one read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager

from taquba_workflow_sync.storage.port.cancellation import Cancellation
from taquba_workflow_sync.storage.port.changes import Changes, ChangeSource, CommitListener, Leader
from taquba_workflow_sync.storage.port.claim import NOTHING_RUNS, ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.job import AttemptRow, Inserted, JobRow, NewJob
from taquba_workflow_sync.storage.port.meter import Counting
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.operators import MOST_ROWS, Piece
from taquba_workflow_sync.storage.port.presence import Abandoned, RunningClaim
from taquba_workflow_sync.storage.port.reads import Counts, Filter, NextWork, RowPage
from taquba_workflow_sync.storage.port.settlement import Answer, Settlement
from taquba_workflow_sync.storage.port.worker import WorkerRow
from taquba_workflow_sync.storage.relational import listing, reads
from taquba_workflow_sync.storage.relational.claims_seen import ClaimsSeen
from taquba_workflow_sync.storage.relational.features import Features
from taquba_workflow_sync.storage.relational.group_methods import GroupMethods
from taquba_workflow_sync.storage.relational.meter_methods import MeterMethods
from taquba_workflow_sync.storage.relational.reading.next_work import next_work
from taquba_workflow_sync.storage.relational.settling import settle_and_claim
from taquba_workflow_sync.storage.relational.transitions import many, remove
from taquba_workflow_sync.storage.relational.transitions.cancel import cancel
from taquba_workflow_sync.storage.relational.transitions.enqueue import insert
from taquba_workflow_sync.storage.relational.transitions.hold import token_after
from taquba_workflow_sync.storage.relational.transitions.renew import renew
from taquba_workflow_sync.storage.relational.transitions.requeue import requeue
from taquba_workflow_sync.storage.relational.transitions.subscribe import is_subscribed, subscribe, unsubscribe
from taquba_workflow_sync.storage.relational.transitions.sweep import has_work_for_sweep, sweep, writers
from taquba_workflow_sync.storage.relational.unreadable import Unreadable
from taquba_workflow_sync.wakeup import WakeUp


class Methods(Features, GroupMethods, MeterMethods):
    """The methods of the port; an engine brings what they work through."""

    _unreadable: Unreadable
    _changes: ChangeSource
    _claims: ClaimsSeen
    #: The boot whose clock delays go by; 0: the wall clock's.
    _boot: int

    def insert(self, jobs: Sequence[NewJob]) -> list[Inserted]:
        """Insert jobs, all or none."""
        return self._access.write(lambda tx: insert(tx, jobs))

    def settle_and_claim(
        self, settlements: Sequence[Settlement], claims: Sequence[ClaimRequest], counting: Counting | None = None
    ) -> tuple[list[Answer], list[ClaimedRow]]:
        """End claims and take new ones."""
        return settle_and_claim(self._access, settlements, claims, counting)

    def token_after(self, token: str) -> str:
        """Return a token for the next step."""
        return token_after(token)

    def renew(self, tokens: Collection[str], lease_ms: int) -> tuple[int, frozenset[str]]:
        """Extend leases."""
        return self._access.write(lambda tx: renew(tx, tokens, lease_ms))

    def cancel(
        self,
        job_id: str,
        *,
        reason: str | None = None,
        abandoned: Abandoned | None = None,
        never_reap: Collection[str] = NOTHING_RUNS,
        deliver: LaneClaim | None = None,
    ) -> Cancellation:
        """Cancel a job, or ask its claim to stop."""
        return self._access.write(lambda tx: cancel(tx, job_id, abandoned, never_reap, deliver, reason))

    def requeue(
        self, job_id: str, *, failed_run: bool = False, payload: bytes | None = None, clears_memo: bool = False
    ) -> None:
        """Put a dead job or a failed run back in line."""
        self._access.write(
            lambda tx: requeue(tx, job_id, failed_run=failed_run, payload=payload, clears_memo=clears_memo)
        )

    def cancel_some(
        self,
        queue: str,
        which: Filter,
        cursor: str | None,
        *,
        reason: str | None = None,
        abandoned: Abandoned | None = None,
        never_reap: Collection[str] = NOTHING_RUNS,
    ) -> Piece:
        """Cancel some of the runs that a filter finds."""
        found, after = self._access.read(listing.find, self._now, queue, which, MOST_ROWS, cursor)
        if not found:
            return Piece(0, [], after)
        return self._access.write(lambda tx: many.cancel_some(tx, which, found, after, reason, abandoned, never_reap))

    def retry_some(self, queue: str, which: Filter, cursor: str | None) -> Piece:
        """Retry some of the runs that a filter finds."""
        found, after = self._access.read(listing.find, self._now, queue, which, MOST_ROWS, cursor)
        if not found:
            return Piece(0, [], after)
        return self._access.write(lambda tx: many.retry_some(tx, which, found, after))

    def remove(self, job_id: str) -> None:
        """Remove a dead job."""
        self._access.write(lambda tx: remove.remove(tx, job_id))

    def remove_some(self, queue: str, which: Filter, cursor: str | None) -> Piece:
        """Remove some of the rows that a filter finds."""
        found, after = self._access.read(listing.find, self._now, queue, which, MOST_ROWS, cursor)
        if not found:
            return Piece(0, [], after)
        return self._access.write(lambda tx: remove.remove_some(tx, which, found, after))

    def subscribe(self, queue: str, subscription: Subscription) -> None:
        """Register who is told of ended runs; writes only what changes."""
        if not self._access.read(is_subscribed, queue, subscription):
            self._access.write(lambda tx: subscribe(tx, queue, subscription))

    def unsubscribe(self, queue: str, *, drop_from: str | None = None) -> int:
        """Tell nobody any more."""
        return self._access.write(lambda tx: unsubscribe(tx, queue, drop_from))

    def get(self, job_id: str, *, with_payload: bool = True) -> JobRow | None:
        """Return a job."""
        return self._access.read(reads.get, self._now, job_id, with_payload=with_payload)

    def find_run(self, queue: str, run_id: str) -> JobRow | None:
        """Return the active row of a run id, else its newest."""
        return self._access.read(reads.find_run, self._now, queue, run_id)

    def page(self, queue: str, which: Filter, limit: int, cursor: str | None, *, with_payload: bool = True) -> RowPage:
        """Return a page of a queue."""
        return self._access.read(listing.page, self._now, queue, which, limit, cursor, with_payload=with_payload)

    def ended(self, job_ids: Collection[str]) -> set[str]:
        """Return which of some jobs have ended, or are not stored."""
        return self._access.read(reads.ended, job_ids)

    def counts(self) -> dict[str, Counts]:
        """Return every queue's counters."""
        return self._access.read(reads.counts)

    def history(self, job_id: str) -> list[AttemptRow]:
        """Return a job's ended claims."""
        return self._access.read(reads.history, job_id)

    def next_work(self, queue: str, *, retries_only: bool = False) -> NextWork:
        """Return whether a claim could succeed now, or in how long."""
        return self._access.read(
            next_work,
            self._now,
            self._boot_clock.now_ms,
            self._unreadable,
            queue,
            boot=self._boot,
            retries_only=retries_only,
        )

    def running(self) -> list[RunningClaim]:
        """Return this handle's claims of worker loops."""
        return self._claims.running()

    def abandoned_claims(self, *, suspect: str | None = None, own: Collection[str] = ()) -> Abandoned:
        """Look which claims may be taken over."""
        return self._claims.abandoned(suspect, own)

    def suspected_claims(self) -> list[str]:
        """Return the jobs of others who may be dead."""
        return self._claims.suspected()

    def enrol(self) -> None:
        """Have this handle be known as one that works."""
        self._claims.enrol()

    def workers(self) -> list[WorkerRow]:
        """Return who works."""
        return self._claims.workers()

    def wait_for_changes(self, since: object, timeout: float, wakeup: WakeUp) -> Changes:
        """Wait for a commit of any process."""
        return self._changes.wait_for_changes(since, timeout, wakeup)

    def on_commit(self, listener: CommitListener) -> AbstractContextManager[None]:
        """Tell ``listener`` of this process's commits."""
        return self._changes.on_commit(listener)

    def lead(self, on_waiting: Callable[[], None]) -> AbstractContextManager[Leader | None]:
        """Have this thread commit for everyone."""
        return self._changes.lead(on_waiting)

    def sweep(self) -> int:
        """Remove what is past its retention; takes the write lock only if there is something."""
        dead = self._claims.dead_among(self._access.read(writers))
        if not dead and not self._access.read(has_work_for_sweep, self._now()):
            return 0
        return self._access.write(lambda tx: sweep(tx, dead))
