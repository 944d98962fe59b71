"""The embedded engine behind the port: a directory, one SQLite file, and the locks of those who have it open."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from taquba_workflow_sync.clock import SystemClock, clock_reader, on_advance
from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.embedded import listing, reads
from taquba_workflow_sync.storage.embedded.access import Access
from taquba_workflow_sync.storage.embedded.backup import backup, backup_file, restore
from taquba_workflow_sync.storage.embedded.boot_clock import BootClock
from taquba_workflow_sync.storage.embedded.changes import ChangeFeed
from taquba_workflow_sync.storage.embedded.check import check
from taquba_workflow_sync.storage.embedded.checkpoint import CHECKPOINT_BYTES, Checkpointer
from taquba_workflow_sync.storage.embedded.claims_seen import ClaimsSeen
from taquba_workflow_sync.storage.embedded.commit import Transactor
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.examination import examine
from taquba_workflow_sync.storage.embedded.features import Features
from taquba_workflow_sync.storage.embedded.group_commit import GroupCommit
from taquba_workflow_sync.storage.embedded.group_methods import GroupMethods
from taquba_workflow_sync.storage.embedded.lifecycle import Lifecycle
from taquba_workflow_sync.storage.embedded.meter_methods import MeterMethods
from taquba_workflow_sync.storage.embedded.opening import is_store as is_store
from taquba_workflow_sync.storage.embedded.opening import prepare
from taquba_workflow_sync.storage.embedded.reading.next_work import next_work
from taquba_workflow_sync.storage.embedded.settling import settle_and_claim, settle_plain_in_bulk
from taquba_workflow_sync.storage.embedded.transitions import many, memo, remove
from taquba_workflow_sync.storage.embedded.transitions.cancel import cancel
from taquba_workflow_sync.storage.embedded.transitions.enqueue import insert
from taquba_workflow_sync.storage.embedded.transitions.hold import token_after
from taquba_workflow_sync.storage.embedded.transitions.renew import renew
from taquba_workflow_sync.storage.embedded.transitions.requeue import requeue
from taquba_workflow_sync.storage.embedded.transitions.subscribe import is_subscribed, subscribe, unsubscribe
from taquba_workflow_sync.storage.embedded.transitions.sweep import has_work_for_sweep, sweep, writers
from taquba_workflow_sync.storage.embedded.unreadable import Unreadable
from taquba_workflow_sync.storage.port.cancellation import Cancellation
from taquba_workflow_sync.storage.port.changes import Changes, CommitListener, Leader
from taquba_workflow_sync.storage.port.claim import NOTHING_RUNS, ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.finding import Finding
from taquba_workflow_sync.storage.port.job import AttemptRow, Inserted, JobRow, NewJob
from taquba_workflow_sync.storage.port.meter import Counting
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.operators import MOST_ROWS, Piece
from taquba_workflow_sync.storage.port.presence import Abandoned, RunningClaim
from taquba_workflow_sync.storage.port.reads import Counts, Filter, NextWork, RowPage
from taquba_workflow_sync.storage.port.settlement import Answer, Settlement
from taquba_workflow_sync.storage.port.store import Durability, OpenOptions, Store
from taquba_workflow_sync.wakeup import WakeUp

_PLAIN: Final = OpenOptions()


def open_store(address: str, options: OpenOptions) -> Store:
    """Open the store in the directory ``address``; it is made if it is not there.

    Raises:
        StorageError: the directory or the database cannot be used.
        StoreInUseError: this open, or an open handle, insists on being the only one.
        SchemaVersionError: a newer version of this library wrote the store.
        UnsupportedFilesystemError: SQLite's locks are not safe there.
    """
    return EmbeddedStore(_directory(address), options)


def restore_store(source: str, address: str) -> None:
    """Make a store at ``address`` of a backup, a file or a directory."""
    restore(_directory(source), _directory(address))


def _directory(address: str) -> Path:
    try:
        return Path(os.path.abspath(address))
    except FileNotFoundError:
        text = f"{address!r} is relative, and the working directory it is relative to was deleted"
        raise StorageError(f"{text}; give an absolute path") from None


class EmbeddedStore(Features, GroupMethods, MeterMethods):
    """One handle on a store directory; implements :class:`~taquba_workflow_sync.storage.port.store.Store`."""

    def __init__(
        self,
        root: Path,
        options: OpenOptions = _PLAIN,
        *,
        boot_clock: BootClock | None = None,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
    ) -> None:
        clock = SystemClock() if options.clock is None else options.clock
        self._failpoint = options.failpoint
        self._boot_clock = BootClock() if boot_clock is None else boot_clock
        self._now = clock_reader(clock)
        self._boot = self._boot_clock.boot if isinstance(clock, SystemClock) else 0
        self._connections = Connections(
            root / "db", is_durable=options.durability is Durability.FULL, wal_bytes=checkpoint_bytes
        )
        self._unreadable = Unreadable()
        self._fillings = memo.Fillings()
        transactor = Transactor(
            self._connections,
            Checkpointer(root / "db", self._connections, threshold=checkpoint_bytes, failpoint=options.failpoint),
            owner=lambda: self._lifecycle.owner.id,
            read_clock=self._now,
            clock_is_ours=isinstance(clock, SystemClock),
            boot_clock=self._boot_clock,
            bulk=settle_plain_in_bulk,
            on_commit=lambda queues, ended: self._changes.committed(queues, ended),
            unreadable=self._unreadable,
            failpoint=options.failpoint,
        )
        self._commits = GroupCommit(transactor)
        self._lifecycle = Lifecycle(
            root,
            self._connections,
            options,
            clerk=lambda: self._commits.clerk,
            forget_parent=self._forget_parent,
        )
        self._access = Access(
            self._lifecycle, self._connections, self._commits, self._unreadable, self._boot_clock.boot
        )
        self._changes = ChangeFeed(self._lifecycle, self._connections, self._commits)
        self._claims = ClaimsSeen(self._lifecycle, self._access, self._commits, self._now)
        deadline = time.monotonic() + (options.wait_s or 0.0)  # for both together
        prepare(root, self._connections, options, deadline)
        self._lifecycle.begin(deadline)
        self._unsubscribe_clock = on_advance(clock, self._changes.clock_was_moved)

    def _forget_parent(self) -> None:
        self._commits.reset_after_fork()
        self._changes.reset_after_fork()

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

    def wait_for_changes(self, since: object, timeout: float, wakeup: WakeUp) -> Changes:
        """Wait for a commit of any process."""
        return self._changes.wait(since, timeout, wakeup)

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

    def backup(self, address: str) -> None:
        """Write a copy of one moment."""
        self._lifecycle.use()
        backup(self._connections, _directory(address), self._failpoint)

    def backup_file(self, path: str) -> None:
        """Write a copy of one moment into a file."""
        self._lifecycle.use()
        backup_file(self._connections, _directory(path), self._failpoint)

    def examine(self) -> list[Finding]:
        """Return how the store and what it stands on are."""
        self._lifecycle.use()
        return examine(self._lifecycle.root, self._connections, self._lifecycle.owner.id, self._now())

    def check(self) -> list[str]:
        """Return what is wrong with the store."""
        self._lifecycle.use()
        return check(self._connections)

    def unreadable(self) -> list[str]:
        """Return what was passed over."""
        return self._unreadable.sentences()

    def close(self) -> None:
        """Let go of everything."""
        self._unsubscribe_clock()
        self._lifecycle.close()
