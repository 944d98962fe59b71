"""Group commit: the concurrent writes of one process share a transaction and one fsync.

Callers queue their operations; whoever leads takes all that wait, runs them in one transaction, commits, and answers
everyone. Leadership is free for all: a waiter that nobody answers tries to lead, so a lost wake-up costs a tenth of a
second and never a hang. While a dispatcher attends, it leads (signals reach only the main thread), and callers only
ring its bell.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from taquba_workflow_sync.clock import BootClock
from taquba_workflow_sync.errors import StorageError, StoreClosedError, TaqubaError
from taquba_workflow_sync.failpoints import Failpoint
from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.checkpoint import Checkpointer
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.repair.showing import is_undecodable
from taquba_workflow_sync.storage.embedded.transaction import Transaction

_log = logging.getLogger(__name__)

_BATCH_LIMIT: Final = 512
_UNANSWERED: Final = 0.1
_BEGIN_TIMEOUT: Final = 30.0
# Sleeps between tries for the write lock. SQLite's own busy handler starved whole processes (159 commits of one to
# 10,387 of another); with these four processes got equal shares.
_RETRY_LEAST: Final = 0.0002
_RETRY_MOST: Final = 0.0015


class UnstorableError(StorageError):
    """What was asked for does not fit what is stored: a damaged row, a wrong counter. A retry alone would not help."""


class Operation(Protocol):
    """One caller's part of a transaction; it guards before it writes, so a refusal leaves nothing behind."""

    def __call__(self, tx: Transaction, /) -> Any:
        """Do it."""
        ...


#: Runs the operations of a batch that go together better than one by one; returns those left to run singly.
Bulk = Callable[[Transaction, Sequence["Slot"]], Sequence["Slot"]]


class Slot:
    """An operation on its way through a transaction, and its answer once it has one."""

    __slots__ = ("error", "is_done", "operation", "value", "wake")

    def __init__(self, operation: Operation) -> None:
        self.operation: Operation = operation
        self.value: Any = None
        self.error: BaseException | None = None
        self.is_done: bool = False
        self.wake: threading.Lock | None = None

    def answer(self) -> Any:
        """Return the operation's value, or raise its error."""
        if self.error is not None:
            raise self.error
        return self.value


class Committer:
    """The one place of a process where a store's transactions begin and end."""

    def __init__(
        self,
        connections: Connections,
        checkpointer: Checkpointer,
        *,
        owner: Callable[[], str],
        read_clock: Callable[[], int],
        clock_is_ours: bool,
        boot_clock: BootClock,
        bulk: Bulk,
        on_commit: Callable[[frozenset[str], bool], None],
        failpoint: Failpoint | None,
    ) -> None:
        self._connections = connections
        self._checkpointer = checkpointer
        self._owner = owner
        self._read_clock = read_clock
        self._clock_is_ours = clock_is_ours
        self._boot_clock = boot_clock
        self._bulk = bulk
        self._on_commit = on_commit
        self._failpoint = failpoint
        #: How many transactions could not be committed, ever, for what the disk or another process did.
        self.failures: int = 0
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget what the parent's threads had queued: it is theirs, and they commit it."""
        self._queue: deque[Slot] = deque()
        self._mutex = threading.Lock()
        # Held for ever: what a pause waits on. An Event's lock could stay taken when a wait is interrupted.
        self._pause = threading.Lock()
        self._pause.acquire()
        self._leading: int | None = None
        self._attendant: Callable[[], None] | None = None
        self._attendant_thread: int | None = None
        self._others_write = False

    def attend(self, notify: Callable[[], None]) -> bool:
        """Make the calling thread the one that commits for everyone; False if another does already."""
        with self._mutex:
            if self._attendant is not None:
                return False
            self._attendant_thread = threading.get_ident()
            self._attendant = notify
            return True

    def dismiss(self) -> None:
        """Have everyone lead again for themselves."""
        if self._attendant_thread == threading.get_ident():
            self._attendant = self._attendant_thread = None
            self._wake_next()

    @property
    def has_waiting(self) -> bool:
        """Whether callers wait for a commit."""
        return bool(self._queue)

    def run(self, operations: Sequence[Operation]) -> list[Slot]:
        """Commit the operations, together with whatever else waits; on return each has its answer.

        Raises:
            RuntimeError: called from inside a transaction of this thread (a log handler, a ``__del__``).
        """
        me = threading.get_ident()
        if self._leading == me:
            raise RuntimeError("the store was called from inside its own transaction, by the thread that runs it")
        slots = [Slot(operation) for operation in operations]
        if not slots:
            return slots
        last = slots[-1]
        wakeup = last.wake = threading.Lock()
        wakeup.acquire()
        self._queue.extend(slots)
        may_lead = self._attendant_thread in (None, me)
        notify = self._attendant
        if not may_lead and notify is not None:
            notify()
        try:
            while not last.is_done:
                if not (may_lead and self._lead_once(me)):
                    if last.is_done:
                        break
                    wakeup.acquire(timeout=_UNANSWERED)
                    may_lead = True
        except BaseException:
            # Nobody waits for these answers any more. What a leader has taken already may still be committed.
            for slot in slots:
                with suppress(ValueError):
                    self._queue.remove(slot)
            self._wake_next()
            raise
        return slots

    def serve(self) -> None:
        """Commit what waits, if anything does; what the attendant does when its bell rings."""
        if self._queue:
            self._lead_once(threading.get_ident())

    def _lead_once(self, me: int) -> bool:
        """Run one batch as the leader; False if another thread leads."""
        try:
            with self._mutex:
                if self._leading is not None:
                    return False
                self._leading = me
            self._run_batch()
        finally:
            if self._leading == me:
                self._leading = None
                self._wake_next()
        return True

    def _wake_next(self) -> None:
        try:
            wakeup = next((slot.wake for slot in self._queue if slot.wake is not None), None)
        except RuntimeError:  # the queue grew while we looked; whoever put it there leads
            return
        if wakeup is not None and wakeup.locked():
            _notify(wakeup)

    def _run_batch(self) -> None:
        batch: list[Slot] = []
        is_applied = False
        try:
            while self._queue and len(batch) < _BATCH_LIMIT:
                batch.append(self._queue.popleft())
            if batch:
                self._commit(batch)
            is_applied = True
        finally:
            # Interrupted (KeyboardInterrupt reaches the main thread anywhere): what was rolled back goes to the front
            # of the queue for the next leader, what was committed has its answer.
            if not is_applied:
                self._queue.extendleft(slot for slot in reversed(batch) if not slot.is_done)
            for slot in batch:
                if slot.is_done and slot.wake is not None:
                    _notify(slot.wake)

    def _commit(self, batch: Sequence[Slot]) -> None:
        """Run the batch in one transaction; if that fails before its COMMIT, each operation in one of its own."""
        try:
            self._transact(batch, self._bulk)
        except _NotBegun as failure:
            self._fail(batch, failure.error)
        except _NotApplied as failure:
            if len(batch) == 1:
                self._fail(batch, failure.error)
                return
            for slot in batch:
                try:
                    self._transact([slot], None)
                except (_NotBegun, _NotApplied) as single:
                    self._fail([slot], single.error)

    def _transact(self, batch: Sequence[Slot], bulk: Bulk | None) -> None:
        now_ms = None if self._clock_is_ours else self._read_user_clock()
        deadline = time.monotonic() + _BEGIN_TIMEOUT
        while True:
            gate = self._connections.gate
            try:
                gate.enter()
                if self._begin(deadline):
                    writer = self._connections.open_writer
                    assert writer is not None
                    tx = Transaction(
                        writer,
                        self._read_clock() if now_ms is None else now_ms,
                        self._owner(),
                        self._boot_clock,
                        # A clock of the user's own is the only time that there is.
                        delays_by_boot_clock=self._clock_is_ours and self._boot_clock.boot != 0,
                    )
                    self._fill(tx, batch, bulk)
                    self._checkpoint()
                    break
            except BaseException:
                # A signal handler may raise anything, anywhere: no transaction stays open behind it.
                self._roll_back()
                raise
            finally:
                gate.leave()
            self._pause.acquire(timeout=random.uniform(_RETRY_LEAST, _RETRY_MOST))
        if tx.woken or tx.ended_run:
            self._on_commit(frozenset(tx.woken), tx.ended_run)
        if self._others_write:
            # Another process waits for the lock: without a moment's rest this one would take it again at once.
            self._others_write = False
            self._pause.acquire(timeout=_RETRY_LEAST)

    def _read_user_clock(self) -> int:
        try:
            return self._read_clock()
        except Exception as error:
            raise _NotBegun(StorageError(f"the clock given to Queue.open failed: {error!r}")) from error

    def _begin(self, deadline: float) -> bool:
        try:
            writer = self._connections.writer()
            if writer.in_transaction:
                self._roll_back()  # an interrupt interrupted the rollback of an interrupted transaction
            writer.execute(sql.BEGIN)
        except StoreClosedError as error:
            raise _NotBegun(error) from error
        except sqlite3.Error as error:
            if _is_busy(error):
                self._others_write = True
                if time.monotonic() < deadline:
                    return False
                text = f"the store was locked by another process for {_BEGIN_TIMEOUT:.0f} s"
                raise _NotBegun(StorageError(text)) from error
            self._connections.drop_writer()
            raise _NotBegun(StorageError(f"cannot write to the store {self._connections.root}: {error}")) from error
        return True

    def _fill(self, tx: Transaction, batch: Sequence[Slot], bulk: Bulk | None) -> None:
        """Run the operations and COMMIT; the transaction is open on entry and over on exit, however it went."""
        connection = tx.connection
        is_committing = False
        try:
            for slot in batch if bulk is None else bulk(tx, batch):
                self._run_one(tx, slot)
            tx.finish()
            self._at(tx, "before-commit")
            is_committing = True
            connection.execute(sql.COMMIT)
        except BaseException as error:
            if is_committing and not isinstance(error, sqlite3.Error) and not connection.in_transaction:
                _settle(batch)  # interrupted between the COMMIT and our knowing of it
                raise
            self._roll_back()
            if isinstance(error, sqlite3.Error) and is_read_only(error):
                self._connections.drop_writer()
            if not isinstance(error, (sqlite3.Error, StorageError, _PartialWrite, MemoryError, OverflowError)):
                raise
            cause = error.error if isinstance(error, _PartialWrite) else error
            if is_committing:
                # It may have happened all the same (EIO at the fsync: the row was there after a reboot).
                text = f"the outcome of this write is unknown, its COMMIT failed: {cause}"
                self._fail(batch, StorageError(text))
                return
            if not isinstance(cause, TaqubaError):
                kind = UnstorableError if _is_permanent(cause) else StorageError
                cause = kind(f"nothing was written: {cause}")
            raise _NotApplied(cause) from error
        _settle(batch)
        self._at(tx, "after-commit")

    def _fail(self, batch: Sequence[Slot], error: TaqubaError) -> None:
        if not isinstance(error, UnstorableError):
            self.failures += 1
        _fail(batch, error)

    def _run_one(self, tx: Transaction, slot: Slot) -> None:
        changes = tx.connection.total_changes
        slot.value = slot.error = None
        try:
            slot.value = slot.operation(tx)
        except TaqubaError as error:
            if tx.connection.total_changes != changes:
                raise _PartialWrite(error) from error
            slot.error = error
        except sqlite3.Error:
            raise
        except Exception as error:  # a fault of ours in one operation must not take the other callers' along
            if tx.connection.total_changes != changes:
                raise _PartialWrite(error) from error
            slot.error = error
        if not tx.connection.in_transaction:
            # FULL, IOERR and NOMEM roll the whole transaction back by themselves; what followed would commit alone.
            raise sqlite3.OperationalError("SQLite rolled the transaction back")

    def _roll_back(self) -> None:
        try:
            connection = self._connections.open_writer
            if connection is not None and connection.in_transaction:
                connection.execute(sql.ROLLBACK)
        except sqlite3.Error as error:
            _log.warning("cannot roll back, the connection is opened anew: %s", error)
            self._connections.drop_writer()

    def _checkpoint(self) -> None:
        try:
            self._checkpointer.run_if_due()
        except sqlite3.Error as error:
            # What was asked for is committed; a failed checkpoint costs only room.
            _log.warning("cannot checkpoint: %s", error)
            self._connections.drop_writer()

    def _at(self, tx: Transaction, when: str) -> None:
        if self._failpoint is not None:
            self._failpoint(f"{'+'.join(sorted(tx.transitions))}:{when}")


class _NotBegun(Exception):
    """No transaction could be opened, so nothing was tried."""

    def __init__(self, error: TaqubaError) -> None:
        super().__init__(str(error))
        self.error = error


class _NotApplied(Exception):
    """The transaction was rolled back before its COMMIT."""

    def __init__(self, error: TaqubaError) -> None:
        super().__init__(str(error))
        self.error = error


class _PartialWrite(Exception):
    """An operation failed after it had written, so the transaction cannot be committed with the others'."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def _settle(batch: Sequence[Slot]) -> None:
    for slot in batch:
        slot.is_done = True


def _fail(batch: Sequence[Slot], error: TaqubaError) -> None:
    for slot in batch:
        # Each caller gets an exception of its own: two threads raising one would share its traceback.
        slot.error = type(error)(*error.args)
        slot.error.__cause__ = error.__cause__ or error.__context__
        slot.is_done = True


def _is_permanent(error: BaseException) -> bool:
    """Whether the data is at fault, not the disk or another process."""
    if isinstance(error, sqlite3.Error):
        return isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError)) or is_undecodable(error)
    return not isinstance(error, MemoryError)


def is_read_only(error: sqlite3.Error) -> bool:
    """Whether the connection cannot write: SQLite opens a file that cannot be opened for writing (a disk that is
    read-only for a while, an I/O error) for reading, silently, and would never try again."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY


def _is_busy(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _notify(wakeup: threading.Lock) -> None:
    try:
        wakeup.release()
    except RuntimeError:
        pass  # rung already
