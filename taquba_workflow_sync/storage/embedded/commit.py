"""One write transaction: begin, fill, commit or roll back, and what each operation in it is to be told."""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Final

from taquba_workflow_sync.errors import StorageError, TaqubaError
from taquba_workflow_sync.failpoints import Failpoint
from taquba_workflow_sync.storage.embedded.boot_clock import BootClock
from taquba_workflow_sync.storage.embedded.checkpoint import Checkpointer
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.moved import closed_by_move
from taquba_workflow_sync.storage.embedded.sqlite_errors import as_not_written, is_read_only
from taquba_workflow_sync.storage.embedded.writer import BEGIN_TIMEOUT, NotBegun, Writer
from taquba_workflow_sync.storage.port.changes import CommitListener
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.data_errors import InvalidDataError
from taquba_workflow_sync.storage.relational.pending import Bulk, PendingWrite, fail_all, settle_all
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transactor import GaveWay
from taquba_workflow_sync.storage.relational.unreadable import Unreadable
from taquba_workflow_sync.wakeup import WakeUp

_log = logging.getLogger(__name__)

# Sleeps between tries for the write lock. SQLite's own busy handler starved whole processes (159 commits of one to
# 10,387 of another); with these four processes got equal shares. Short at first, since the lock is mostly held for less
# than a millisecond and lies idle while all sleep: with 0.2 to 1.5 ms four processes did a tenth to a fifth less.
_RETRY_LEAST: Final = 0.00005
_RETRY_MOST: Final = 0.0006
_RETRY_LONG: Final = 0.0015
_SHORT_RETRIES: Final = 20


class _NotApplied(Exception):
    """The transaction was rolled back before its COMMIT."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class _PartialWrite(Exception):
    """An operation failed after it had written, so the transaction cannot be committed with the others'."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class Transactor:
    """Where a store's transactions begin and end; one thread at a time uses it."""

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
        on_commit: CommitListener,
        unreadable: Unreadable,
        failpoint: Failpoint | None,
    ) -> None:
        self._connections = connections
        self.writer: Writer = Writer(connections, checkpointer)
        self._owner = owner
        self._read_clock = read_clock
        self._clock_is_ours = clock_is_ours
        self._boot_clock = boot_clock
        self._bulk = bulk
        self._on_commit = on_commit
        self._unreadable = unreadable
        self._failpoint = failpoint
        self._pause = WakeUp()
        self._is_interruptible = False
        #: The owner whose number is known, and that.
        self._enrolled: tuple[str, int | None] = ("", None)
        #: How many transactions could not be committed, ever, for what the disk or another process did.
        self.failures: int = 0

    def commit(
        self, batch: Sequence[PendingWrite], gives_way: Callable[[], bool], *, is_interruptible: bool = False
    ) -> None:
        """Run the batch in one transaction; if that fails before its COMMIT, each operation in one of its own.

        ``is_interruptible``: the thread is the user's, so what a signal handler raises in it goes on as it is, once
        everything is rolled back, instead of becoming the answer of an operation.

        Raises:
            GaveWay: nothing was begun, and ``gives_way`` said that it need not be now.
        """
        self._is_interruptible = is_interruptible
        try:
            self._transact(batch, self._bulk, gives_way)
        except NotBegun as failure:
            self._fail(batch, failure.error)
        except _NotApplied as failure:
            if len(batch) == 1:
                self._fail(batch, failure.error)
                return
            for write in batch:
                try:
                    self._transact([write], None, lambda: False)
                except (NotBegun, _NotApplied) as single:
                    self._fail([write], single.error)

    def _transact(self, batch: Sequence[PendingWrite], bulk: Bulk | None, gives_way: Callable[[], bool]) -> None:
        now_ms = None if self._clock_is_ours else self._read_user_clock()
        deadline = time.monotonic() + BEGIN_TIMEOUT
        tries = 0
        while True:
            tx = self._try_once(batch, bulk, now_ms, is_last=time.monotonic() >= deadline)
            if tx is not None:
                break
            if gives_way():
                raise GaveWay
            tries += 1
            self._pause.wait(random.uniform(_RETRY_LEAST, _RETRY_MOST if tries <= _SHORT_RETRIES else _RETRY_LONG))
        if tx.woken or tx.ended:
            self._tell(tx)
        if self.writer.others_write:
            # Another process waits for the lock: without a moment's rest this one would take it again at once.
            self.writer.others_write = False
            self._pause.wait(_RETRY_LEAST)

    def _tell(self, tx: Transaction) -> None:
        try:
            self._on_commit(frozenset(tx.woken), frozenset(tx.ended))
        except Exception:
            if self._is_interruptible:
                raise
            _log.exception("a listener failed after a commit, which happened")

    def _read_user_clock(self) -> int:
        try:
            return self._read_clock()
        except Exception as error:
            if self._is_interruptible:
                raise
            raise NotBegun(StorageError(f"the clock given to Queue.open failed: {error!r}")) from error

    def _try_once(
        self, batch: Sequence[PendingWrite], bulk: Bulk | None, now_ms: int | None, *, is_last: bool
    ) -> Transaction | None:
        """Run one transaction inside the gate; None if another process holds the write lock."""
        gate = self._connections.gate
        token = object()
        try:
            gate.enter(token)
            connection = self.writer.begin(is_last=is_last)
            if connection is None:
                return None
            owner = self._owner()
            enrolled, number = self._enrolled
            tx = Transaction(
                connection,
                self._read_clock() if now_ms is None else now_ms,
                owner,
                self._boot_clock,
                # A clock of the user's own is the only time that there is.
                delays_by_boot_clock=self._clock_is_ours and self._boot_clock.boot != 0,
                unreadable=self._unreadable,
                owner_number=number if owner == enrolled else None,
            )
            self._fill(connection, tx, batch, bulk)
            self.writer.checkpoint()
            return tx
        except BaseException:
            # A signal handler may raise anything, anywhere: no transaction stays open behind it.
            self.writer.roll_back()
            raise
        finally:
            gate.leave(token, None)
            gate.tell()

    def _fill(
        self, connection: sqlite3.Connection, tx: Transaction, batch: Sequence[PendingWrite], bulk: Bulk | None
    ) -> None:
        """Run the operations and COMMIT; the transaction is open on entry and over on exit, however it went."""
        is_committing = False
        try:
            for write in batch if bulk is None else bulk(tx, batch):
                self._run_one(connection, tx, write)
            tx.finish()
            self._at(tx, "before-commit")
            is_committing = True
            connection.execute(sql.COMMIT)
            self._enrolled = tx.owner, tx.owner_number  # what was rolled back enrolled nobody
        except BaseException as error:
            if is_committing and not isinstance(error, sqlite3.Error) and not connection.in_transaction:
                settle_all(batch)  # interrupted between the COMMIT and our knowing of it
                raise
            self.writer.roll_back()
            if isinstance(error, sqlite3.Error) and is_read_only(error):
                self._connections.drop_writer()
            if self._is_interruptible and not isinstance(
                error, (sqlite3.Error, TaqubaError, _PartialWrite, MemoryError)
            ):
                raise
            cause = error.error if isinstance(error, _PartialWrite) else error
            if is_committing:
                # It may have happened all the same (EIO at the fsync: the row was there after a reboot).
                text = f"the outcome of this write is unknown, its COMMIT failed: {cause}"
                self._fail(batch, StorageError(text))
                return
            if isinstance(cause, (sqlite3.Error, MemoryError, OverflowError)):
                cause = closed_by_move(cause, self._connections) or as_not_written(cause)
            raise _NotApplied(cause) from error
        settle_all(batch)
        self._at(tx, "after-commit")

    def _fail(self, batch: Sequence[PendingWrite], error: BaseException) -> None:
        if not isinstance(error, InvalidDataError):
            self.failures += 1
        fail_all(batch, error)

    def _run_one(self, connection: sqlite3.Connection, tx: Transaction, write: PendingWrite) -> None:
        changes = connection.total_changes
        write.value = write.error = None
        try:
            write.value = write.operation(tx)
        except TaqubaError as error:
            if connection.total_changes != changes:
                raise _PartialWrite(error) from error
            write.error = error
        except sqlite3.Error:
            raise
        except Exception as error:  # a fault of ours in one operation must not take the other callers' along
            if self._is_interruptible:
                raise
            if connection.total_changes != changes:
                raise _PartialWrite(error) from error
            write.error = error
        if not connection.in_transaction:
            # FULL, IOERR and NOMEM roll the whole transaction back by themselves; what followed would commit alone.
            raise sqlite3.OperationalError("SQLite rolled the transaction back")

    def _at(self, tx: Transaction, when: str) -> None:
        if self._failpoint is not None:
            self._failpoint(f"{'+'.join(sorted(tx.transitions))}:{when}")
