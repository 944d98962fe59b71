"""The embedded engine behind the port: a directory, one SQLite file, and the locks of those who have it open."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from taquba_workflow_sync.clock import BootClock, Clock, SystemClock, clock_reader
from taquba_workflow_sync.errors import StorageError, StoreClosedError, TaqubaError
from taquba_workflow_sync.failpoints import Failpoint, between
from taquba_workflow_sync.storage.embedded import boot_clock as boots
from taquba_workflow_sync.storage.embedded import reads
from taquba_workflow_sync.storage.embedded.checkpoint import CHECKPOINT_BYTES, Checkpointer
from taquba_workflow_sync.storage.embedded.committer import Committer, Operation, Slot, UnstorableError
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.filesystem import sync_directory
from taquba_workflow_sync.storage.embedded.forks import ForkGuard, forget, guard_forks_of
from taquba_workflow_sync.storage.embedded.locks import opening
from taquba_workflow_sync.storage.embedded.opening import prepare
from taquba_workflow_sync.storage.embedded.presence import Owner
from taquba_workflow_sync.storage.embedded.repair.mending import repair
from taquba_workflow_sync.storage.embedded.repair.showing import is_undecodable, tolerant
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.embedded.transitions.advance import advance_many, is_plain
from taquba_workflow_sync.storage.embedded.transitions.cancel import cancel
from taquba_workflow_sync.storage.embedded.transitions.claim import claim
from taquba_workflow_sync.storage.embedded.transitions.enqueue import insert
from taquba_workflow_sync.storage.embedded.transitions.renew import renew
from taquba_workflow_sync.storage.embedded.transitions.requeue import requeue
from taquba_workflow_sync.storage.embedded.transitions.settle import settle
from taquba_workflow_sync.storage.embedded.transitions.subscribe import is_subscribed, subscribe
from taquba_workflow_sync.storage.embedded.transitions.sweep import sweep
from taquba_workflow_sync.storage.port.cancellation import Cancellation
from taquba_workflow_sync.storage.port.changes import CommitListener
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.job import AttemptRow, Inserted, JobRow, NewJob
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.presence import NOTHING_ABANDONED, Abandoned, RunningClaim
from taquba_workflow_sync.storage.port.reads import Counts, Filter, Readiness
from taquba_workflow_sync.storage.port.settlement import Settlement

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_NOTHING_RUNS: Final = frozenset[str]()
_CLEANING_INTERVAL: Final = 30.0
_REPAIR_INTERVAL: Final = 5.0
_REPAIR_SHARE: Final = 20.0
_EXIT_PATIENCE: Final = 5.0


class _Settle:
    """A settlement on its way through a transaction; a class, so that a batch can tell which go in bulk."""

    __slots__ = ("settlement",)

    def __init__(self, settlement: Settlement) -> None:
        self.settlement = settlement

    def __call__(self, tx: Transaction, /) -> None:
        settle(tx, self.settlement)


def _advance_in_bulk(tx: Transaction, batch: Sequence[Slot]) -> Sequence[Slot]:
    plain = [
        slot.operation.settlement
        for slot in batch
        if isinstance(slot.operation, _Settle) and is_plain(slot.operation.settlement)
    ]
    if len(plain) < 2:
        return batch
    advanced = advance_many(tx, plain)
    left: list[Slot] = []
    for slot in batch:
        settlement = slot.operation.settlement if isinstance(slot.operation, _Settle) else None
        if settlement is not None and settlement.token in advanced and is_plain(settlement):
            # The first plain one is what was applied; any other settlement of the claim meets the fence.
            advanced.discard(settlement.token)
        else:
            left.append(slot)
    return left


def _is_about_data(error: BaseException | None) -> bool:
    """Whether what failed may have met damaged data. What cannot be bound at all is the caller's own."""
    if isinstance(error, TaqubaError):
        return isinstance(error, UnstorableError)
    caller = (UnicodeEncodeError, sqlite3.InterfaceError, sqlite3.ProgrammingError, MemoryError)
    return isinstance(error, Exception) and not isinstance(error, caller)


def _read_undecodable(connection: sqlite3.Connection, query: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """Read again where some text is no UTF-8; it comes as what fits no column of text."""
    factory = connection.text_factory
    connection.text_factory = tolerant
    try:
        return query(connection, *args, **kwargs)
    finally:
        connection.text_factory = factory


class EmbeddedStore(ForkGuard):
    """One handle on a store directory; implements :class:`~taquba_workflow_sync.storage.port.store.Store`.

    ``running`` is the process-wide set of tokens whose steps run here, whichever handle they belong to: a process
    never takes such a claim back, whatever the leases say. ``failpoint`` is called with the name of each failpoint, for
    tests that kill or fail there.
    """

    def __init__(
        self,
        root: Path,
        *,
        is_durable: bool = True,
        is_exclusive: bool = False,
        clock: Clock | None = None,
        boot_clock: BootClock | None = None,
        running: Collection[str] = _NOTHING_RUNS,
        failpoint: Failpoint | None = None,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
    ) -> None:
        self._root = root
        self._is_exclusive = is_exclusive
        self._running = running
        self.clock: Clock = clock if clock is not None else SystemClock()
        self._now = clock_reader(self.clock)
        self._boot_clock = boot_clock if boot_clock is not None else BootClock()
        self._is_in_boot = False
        self._connections = Connections(root / "db", is_durable=is_durable)
        self._committer = Committer(
            self._connections,
            Checkpointer(root / "db", self._connections, threshold=checkpoint_bytes, failpoint=failpoint),
            owner=lambda: self.owner.id,
            read_clock=self._now,
            clock_is_ours=isinstance(self.clock, SystemClock),
            boot_clock=self._boot_clock,
            bulk=_advance_in_bulk,
            on_commit=self._committed,
            failpoint=failpoint,
        )
        self._failpoint = failpoint
        self._listeners: list[CommitListener] = []
        self._next_cleaning = 0.0
        self._next_repair = 0.0
        self._failures_seen = 0
        self._is_closed = False
        self._is_attached = False
        self._attaching = threading.Lock()
        prepare(root, self._connections, failpoint)
        self._attach()
        guard_forks_of(self)

    # -- life --------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        """Become an owner: at open, and again in a forked child, which must not act under its parent's lock."""
        with self._attaching:
            if self._is_attached:
                return
            owner = Owner(self._root / "owners", exclusive=self._is_exclusive)
            with opening(self._root):
                between(self._failpoint, "lock-owner", owner.take)()
            # Or a power cut takes the file and leaves the claims, and nobody could tell that their owner is dead.
            with suppress(OSError):
                sync_directory(self._root / "owners")
            self.owner = owner
            self._is_attached = True
        self._clean()

    def _clean(self) -> None:
        """Clear away the locks of the dead: housekeeping, whose failure is none of the caller's."""
        try:
            self.owner.clean(self._has_claims)
        except (OSError, sqlite3.Error) as error:
            _log.warning("cannot clear away the locks of dead owners: %s", error)

    def _use(self) -> None:
        if self._is_closed:
            raise StoreClosedError(f"the store {self._root} was closed; open it again")
        if not self._is_attached:
            self._attach()

    def _has_claims(self, owner: str) -> bool:
        with self._connections.reading() as connection:
            return reads.has_claims(connection, owner)

    def close_at_exit(self) -> None:
        """Close what nobody closed; a daemon thread inside a call is not waited for without end."""
        self.close(patience=_EXIT_PATIENCE)

    def close(self, *, patience: float = float("inf")) -> None:
        """Let go of every connection, then of the owner lock."""
        if self._is_closed:
            return
        self._is_closed = True
        forget(self)
        has_claims = True
        if self._is_attached:
            with suppress(sqlite3.Error):
                has_claims = self._has_claims(self.owner.id)
        gate = self._connections.gate
        gate.shut(patience)
        try:
            between(self._failpoint, "close", self._connections.close)(for_good=True)
        finally:
            gate.open()
        if self._is_attached:
            self.owner.leave(has_claims=has_claims)

    def before_fork(self) -> None:
        """Let running calls end, keep new ones waiting, close every connection."""
        self._connections.gate.shut()
        with suppress(sqlite3.Error):
            self._connections.close()

    def after_fork_in_parent(self) -> None:
        """Let calls in again; connections open when they are needed."""
        self._connections.gate.open()

    def after_fork_in_child(self) -> None:
        """Start as a new owner with no connection, no listener and nothing queued."""
        self._connections.reset_after_fork()
        self._committer.reset_after_fork()
        self._attaching = threading.Lock()
        self._is_attached = False
        self._listeners = []

    # -- frame -------------------------------------------------------------------------------------------------

    def _write(self, operation: Callable[[Transaction], _T]) -> _T:
        self._use()
        slot = self._run([operation])[0]
        if _is_about_data(slot.error) and not isinstance(slot.error, TaqubaError):
            raise StorageError(f"nothing was written: {slot.error!r}") from slot.error
        value: _T = slot.answer()
        return value

    def _run(self, operations: Sequence[Operation]) -> list[Slot]:
        """Commit; the first time, after what a boot of the machine since the last time asks for."""
        if self._is_in_boot:
            return self._run_repairing(operations)
        boot = self._boot_clock.boot
        if self._read(boots.is_of_boot, boot):
            self._is_in_boot = True
            return self._run_repairing(operations)
        entry, *slots = self._run_repairing([lambda tx: boots.enter_boot(tx, boot), *operations])
        self._is_in_boot = entry.error is None
        return slots

    def _run_repairing(self, operations: Sequence[Operation]) -> list[Slot]:
        """Commit; what does not fit the stored data is tried once more, after that was mended where it is damaged."""
        slots = self._committer.run(operations)
        unstored = [slot for slot in slots if _is_about_data(slot.error)]
        if unstored and self._repair():
            again = self._committer.run([slot.operation for slot in unstored])
            for slot, second in zip(unstored, again, strict=True):
                slot.value, slot.error = second.value, second.error
        return slots

    def _repair(self) -> bool:
        """Mend what is damaged in the store; whether there was anything, and that was stored."""
        began = time.monotonic()
        if began < self._next_repair:
            return False
        slot = self._committer.run([repair])[0]
        if not slot.value:
            # It counts every row: what it cannot help must not have it done at each try.
            ended = time.monotonic()
            self._next_repair = ended + max(_REPAIR_INTERVAL, _REPAIR_SHARE * (ended - began))
        if slot.error is not None:
            _log.error("damage in the store %s could not be mended: %r", self._root, slot.error)
            return False
        # Not before the commit: it could fail, and no handler of the user's runs under the write lock.
        for repaired in slot.value:
            _log.error("%s", repaired)
        return bool(slot.value)

    def _read(self, query: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        self._use()
        try:
            with self._connections.reading() as connection:
                try:
                    return query(connection, *args, **kwargs)
                except sqlite3.OperationalError as error:
                    if not is_undecodable(error):
                        raise
                    return _read_undecodable(connection, query, *args, **kwargs)
        except sqlite3.Error as error:
            raise StorageError(f"cannot read the store {self._root}: {error}") from error

    def _committed(self, woken: frozenset[str], ended_run: bool) -> None:
        for listener in tuple(self._listeners):
            listener(woken, ended_run)

    @contextmanager
    def listen(self, listener: CommitListener, *, attend: bool = False) -> Iterator[None]:
        """Tell ``listener`` of this process's commits; with ``attend``, this thread commits for everyone."""
        self._use()
        self._listeners.append(listener)
        attends = attend and self._committer.attend(lambda: listener(frozenset(), False))
        try:
            yield
        finally:
            if attends:
                self._committer.dismiss()
            with suppress(ValueError):
                self._listeners.remove(listener)

    # -- transitions -------------------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob]) -> list[Inserted]:
        """Insert jobs, all or none."""
        return self._write(lambda tx: insert(tx, jobs))

    def settle_and_claim(
        self, settlements: Sequence[Settlement], claims: Sequence[ClaimRequest]
    ) -> tuple[list[TaqubaError | None], list[ClaimedRow]]:
        """End claims and take new ones."""
        self._use()
        if not settlements and not claims:
            self._committer.serve()
            return [], []
        operations: list[Any] = [_Settle(settlement) for settlement in settlements]
        operations += [self._claiming(request) for request in claims]
        slots = self._run(operations)
        refusals: list[TaqubaError | None] = []
        for slot in slots[: len(settlements)]:
            error = slot.error
            if isinstance(error, UnstorableError) or (error is not None and not isinstance(error, TaqubaError)):
                # What this one cannot be stored for must not take the answers of the others along.
                error = TaqubaError(f"cannot be stored: {type(error).__name__}: {error}")
            refusals.append(error)
        claimed: list[ClaimedRow] = []
        for slot in slots[len(settlements) :]:
            # A settlement's answer must reach its caller even if the claim beside it failed.
            if slot.error is None:
                claimed += slot.value
            elif not settlements:
                raise slot.error
        return refusals, claimed

    def _claiming(self, request: ClaimRequest) -> Callable[[Transaction], list[ClaimedRow]]:
        return lambda tx: claim(tx, request, self._running)

    def renew(self, tokens: Collection[str], lease_ms: int) -> tuple[int, frozenset[str]]:
        """Extend leases."""
        return self._write(lambda tx: renew(tx, tokens, lease_ms))

    def cancel(
        self, job_id: str, abandoned: Abandoned = NOTHING_ABANDONED, notice: LaneClaim | None = None
    ) -> Cancellation:
        """Cancel a job, or ask its claim to."""
        running = frozenset(self._running)
        return self._write(lambda tx: cancel(tx, job_id, abandoned, notice, running))

    def requeue(self, job_id: str, *, failed_run: bool = False) -> None:
        """Put a dead job or a failed run back in line."""
        self._write(lambda tx: requeue(tx, job_id, failed_run=failed_run))

    def sweep(self) -> int:
        """Remove what is past its retention; takes the write lock only if there is something."""
        return self._write(sweep) if self._read(reads.has_expired, self._now()) else 0

    def subscribe(self, queue: str, subscription: Subscription) -> None:
        """Register who is told of terminated runs; writes only what changes."""
        if not self._read(is_subscribed, queue, subscription):
            self._write(lambda tx: subscribe(tx, queue, subscription))

    # -- reads -------------------------------------------------------------------------------------------------

    def get(self, job_id: str, *, whole: bool = True) -> JobRow | None:
        """Return a job."""
        return self._read(reads.get, job_id, whole=whole)

    def find_run(self, queue: str, run_id: str) -> JobRow | None:
        """Return the newest row of a run id."""
        return self._read(reads.find_run, queue, run_id)

    def page(self, queue: str, which: Filter, limit: int, after: int) -> list[JobRow]:
        """Return a page of a queue."""
        return self._read(reads.page, queue, which, limit, after)

    def counts(self) -> dict[str, Counts]:
        """Return every queue's counters."""
        return self._read(reads.counts)

    def history(self, job_id: str) -> list[AttemptRow]:
        """Return a job's ended claims."""
        return self._read(reads.history, job_id)

    def readiness(self, queue: str, *, retries_only: bool = False) -> Readiness:
        """Return whether a claim could succeed."""
        return self._read(reads.readiness, queue, self._now, self._boot_clock.now_ms, retries_only=retries_only)

    def running(self, *, foreign: bool) -> list[RunningClaim]:
        """Return claims of worker loops."""
        self._use()
        running, is_damaged = self._read(reads.running, self.owner.id, foreign=foreign)
        if is_damaged:
            self._repair()  # what no owner can be told of would be held for ever
        return running

    def abandoned_claims(self, *, suspect: str | None = None) -> Abandoned:
        """Probe the owners of foreign claims; now and then, clear away the locks of the dead."""
        claims = self.running(foreign=True)
        if time.monotonic() >= self._next_cleaning:
            self._next_cleaning = time.monotonic() + _CLEANING_INTERVAL
            self._clean()
        failures, self._failures_seen = self._failures_seen, self._committer.failures
        if failures != self._failures_seen:
            self.owner.watch_anew()  # while this process could not write, the others could not renew
        return self.owner.abandoned_claims(claims, self._now(), suspect=suspect) if claims else NOTHING_ABANDONED

    def version(self) -> int:
        """Return SQLite's data version."""
        self._use()
        try:
            return self._connections.data_version()
        except sqlite3.Error as error:
            raise StorageError(f"cannot read the store: {error}") from error
