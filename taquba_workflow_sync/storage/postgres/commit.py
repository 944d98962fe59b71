"""One write transaction: begin, fill, commit or roll back, and what each operation in it is to be told.

All transactions that move anything take the store's one lock first, so that each sees what the one before has written:
the transitions are those of the embedded engine, which has one writer by nature.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import psycopg

from taquba_workflow_sync.errors import StorageError, TaqubaError
from taquba_workflow_sync.failpoints import Failpoint
from taquba_workflow_sync.storage.port.changes import CommitListener
from taquba_workflow_sync.storage.postgres import arrivals
from taquba_workflow_sync.storage.postgres.arrivals import HAVE_COME
from taquba_workflow_sync.storage.postgres.connections import Connections
from taquba_workflow_sync.storage.postgres.dialect import translated
from taquba_workflow_sync.storage.postgres.errors import as_not_written, first_line
from taquba_workflow_sync.storage.postgres.moved import closed_by_move
from taquba_workflow_sync.storage.postgres.names import Names
from taquba_workflow_sync.storage.postgres.sessions import NotCommittedError, Session
from taquba_workflow_sync.storage.postgres.sql import owners
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.data_errors import InvalidDataError
from taquba_workflow_sync.storage.relational.pending import Bulk, PendingWrite, fail_all, settle_all
from taquba_workflow_sync.storage.relational.rows import QueueRow
from taquba_workflow_sync.storage.relational.sql.names import columns
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.unreadable import Unreadable

_log = logging.getLogger(__name__)

#: For how long other processes may hold the lock before a write fails.
LOCK_TIMEOUT_S: Final = 30


_COUNT_COMMIT: Final = f"UPDATE {sql.META} SET value = value + 1 WHERE key = 'commits' RETURNING value"
#: How many queues a transaction is told of with its beginning, since the ones before asked for them.
_MOST_QUEUES: Final = 4


class NoBootClock:
    """There is no boot that several machines share: delays go by the server's wall clock."""

    boot: int = 0

    def now_ms(self) -> int:
        """Return nothing that counts."""
        return 0


class _NotBegun(Exception):
    def __init__(self, error: TaqubaError) -> None:
        super().__init__(str(error))
        self.error = error


class _NotApplied(Exception):
    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class _NotTakenOver(Exception):
    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class _PartialWrite(Exception):
    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class Transactor:
    """Where a handle's transactions begin and end; one thread at a time uses it."""

    def __init__(
        self,
        connections: Connections,
        *,
        owner: Callable[[], str],
        read_clock: Callable[[], int] | None,
        is_durable: bool,
        bulk: Bulk,
        on_commit: CommitListener,
        failpoint: Failpoint | None,
    ) -> None:
        self._connections = connections
        self._owner = owner
        self._read_clock = read_clock
        self._bulk = bulk
        self._on_commit = on_commit
        self._failpoint = failpoint
        self._boot_clock: Any = NoBootClock()
        self._unreadable = Unreadable()
        self._enrolled: tuple[str, int | None] = ("", None)
        self.failures: int = 0
        #: What the store's count of commits was after the last one of this handle that wrote anything.
        self.commits: int = 0
        relaxed = "" if is_durable else "SET LOCAL synchronous_commit = off;"
        self._begin = (
            f"BEGIN;{relaxed}SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s';"
            f"SELECT pg_advisory_xact_lock({connections.address.key('writer')});"
        )
        self._queues: frozenset[str] = frozenset()
        self._look = self._looking_at(self._queues)

    def _looking_at(self, queues: frozenset[str]) -> str:
        """Return what reads the clock, and the queues that the transaction will ask for, once it has the lock."""
        names = ", ".join("'" + name.replace("'", "''") + "'" for name in sorted(queues)) or "NULL"
        schema = self._connections.address.schema
        return (
            f"SELECT c.ms, c.arrival, {columns(QueueRow, 'q.')} FROM"
            f" (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms,"
            f" ({translated(HAVE_COME, schema)}) AS arrival) AS c"
            f' LEFT JOIN "{schema}".{sql.QUEUE} AS q ON q.name IN ({names})'
        )

    def commit(
        self, batch: Sequence[PendingWrite], gives_way: Callable[[], bool], *, is_interruptible: bool = False
    ) -> None:
        """Run the batch in one transaction; if that fails before its COMMIT, each operation in one of its own."""
        try:
            self._transact(batch, self._bulk)
        except _NotBegun as failure:
            self._fail(batch, failure.error)
        except _NotApplied as failure:
            if len(batch) == 1:
                self._fail(batch, failure.error)
                return
            for write in batch:
                try:
                    self._transact([write], None)
                except (_NotBegun, _NotApplied) as single:
                    self._fail([write], single.error)

    def _transact(self, batch: Sequence[PendingWrite], bulk: Bulk | None) -> None:
        """Commit a batch; what has arrived before is taken over by transactions of its own, so that neither spoils
        the other's."""
        most = arrivals.MOST
        while True:
            taking = PendingWrite(lambda tx, most=most: arrivals.take_over(tx, most))
            try:
                if self._told(batch, bulk, taking):
                    return
                error = taking.error
            except _NotTakenOver as failure:
                error = failure.error
            if error is not None:
                if most == 1:
                    self._set_aside(error)
                most = 1

    def _told(self, batch: Sequence[PendingWrite], bulk: Bulk | None, taking: PendingWrite | None) -> bool:
        """Run one transaction and tell of its commit; whether it was the batch's."""
        before = self.commits
        tx, is_done = self._try(batch, bulk, taking)
        if self.commits != before:
            try:
                self._on_commit(frozenset(tx.woken), frozenset(tx.ended))
            except Exception:
                _log.exception("a listener failed after a commit, which happened")
        return is_done

    def _set_aside(self, error: BaseException) -> None:
        """Have the first that has arrived be nobody's any more, since it cannot be done.

        Raises:
            _NotBegun: it may be done later.
        """
        if not isinstance(error, InvalidDataError):
            raise _NotBegun(as_not_written(error))
        setting = PendingWrite(lambda tx: arrivals.set_aside(tx, str(error)))
        self._told([setting], None, None)
        if setting.error is not None:
            raise _NotBegun(as_not_written(setting.error))

    def _try(
        self, batch: Sequence[PendingWrite], bulk: Bulk | None, taking: PendingWrite | None
    ) -> tuple[Transaction, bool]:
        """Run a batch in a transaction, or ``taking`` if anything has arrived; whether it was the batch."""
        gate = self._connections.gate
        token = object()
        try:
            gate.enter(token)
            session, now_ms, queues, has_arrived = self._open()
            takes_over = has_arrived and taking is not None
            owner = self._owner()
            enrolled, number = self._enrolled
            tx = Transaction(
                session,
                now_ms,
                owner,
                self._boot_clock,
                delays_by_boot_clock=False,
                unreadable=self._unreadable,
                owner_number=number if owner == enrolled else None,
            )
            for queue in queues:
                tx.learn(queue)
            if taking is not None and takes_over:
                try:
                    self._fill(session, tx, [taking], None)
                except _NotApplied as failure:
                    raise _NotTakenOver(failure.error) from failure
            else:
                tx.take_name = Names(session, self._connections.address).take
                self._fill(session, tx, batch, bulk)
            self._remember(tx.queue_names)
            return tx, not takes_over
        except BaseException:
            self._roll_back()
            raise
        finally:
            gate.leave(token, None)
            gate.tell()

    def _remember(self, names: Collection[str]) -> None:
        """Have the next transactions be told of the queues that this one has asked for."""
        if not self._queues.issuperset(names):
            self._queues = frozenset(sorted({*self._queues, *names})[-_MOST_QUEUES:])
            self._look = self._looking_at(self._queues)

    def _open(self) -> tuple[Session, int, list[QueueRow], bool]:
        try:
            now_ms = None if self._read_clock is None else self._read_clock()
        except Exception as error:
            raise _NotBegun(StorageError(f"the clock given to Queue.open failed: {error!r}")) from error
        try:
            session = self._connections.writer()
            if session.in_transaction:
                self._connections.drop_writer()
                session = self._connections.writer()
            rows = session.run(self._begin + self._look)
        except TaqubaError as error:
            raise _NotBegun(error) from error
        except psycopg.Error as error:
            where = self._connections.address.shown
            writer = self._connections.open_writer
            moved = None if writer is None else closed_by_move(error, writer, self._connections.address)
            self._connections.drop_writer()
            text = f"cannot write to the store {where}: {first_line(error)}"
            raise _NotBegun(moved or StorageError(text)) from error
        server_ms = rows[0][0]
        self._connections.clock.tell(server_ms)
        queues = [QueueRow._make(row[2:]) for row in rows if row[2] is not None]
        return session, server_ms if now_ms is None else now_ms, queues, rows[0][1] is not None

    def _fill(self, session: Session, tx: Transaction, batch: Sequence[PendingWrite], bulk: Bulk | None) -> None:
        is_committing = False
        changes = session.total_changes
        try:
            for write in batch if bulk is None else bulk(tx, batch):
                self._run_one(session, tx, write)
            tx.finish()
            self._at(tx, "before-commit")
            is_committing = True
            if session.total_changes == changes:
                session.run("COMMIT")
            else:
                # A handle that was declared dead meanwhile claims nothing under its old name: others take from that
                # what they find, and would begin at once what is to begin here. Who is told takes another name soon.
                fence = [(owners.IS_LIVING, (tx.owner,))] if "claim" in tx.transitions else []
                ((self.commits,),) = session.commit(_COUNT_COMMIT, *fence).fetchall()
            self._enrolled = tx.owner, tx.owner_number
        except BaseException as error:
            cause = error.error if isinstance(error, (_PartialWrite, NotCommittedError)) else error
            if isinstance(cause, psycopg.errors.DivisionByZero):
                cause = StorageError("nothing was written: this handle was declared dead; it goes on by another name")
            if is_committing and not isinstance(error, NotCommittedError):
                self._connections.drop_writer()
                text = f"the outcome of this write is unknown, its COMMIT failed: {first_line(cause)}"
                self._fail(batch, StorageError(text))
                return
            self._roll_back()
            if isinstance(cause, (psycopg.Error, MemoryError, OverflowError)):
                cause = closed_by_move(cause, session, self._connections.address) or as_not_written(cause)
            raise _NotApplied(cause) from error
        settle_all(batch)
        self._at(tx, "after-commit")

    def _roll_back(self) -> None:
        session = self._connections.open_writer
        if session is None:
            return
        try:
            if session.in_transaction:
                session.run("ROLLBACK")
        except psycopg.Error:
            self._connections.drop_writer()

    def _fail(self, batch: Sequence[PendingWrite], error: BaseException) -> None:
        if not isinstance(error, InvalidDataError):
            self.failures += 1
        fail_all(batch, error)

    def _run_one(self, session: Session, tx: Transaction, write: PendingWrite) -> None:
        changes = session.total_changes
        write.value = write.error = None
        try:
            write.value = write.operation(tx)
        except psycopg.Error:
            raise
        except Exception as error:  # a fault of ours in one operation must not take the other callers' along
            if session.total_changes != changes:
                raise _PartialWrite(error) from error
            write.error = error

    def _at(self, tx: Transaction, when: str) -> None:
        if self._failpoint is not None:
            self._failpoint(f"{'+'.join(sorted(tx.transitions))}:{when}")
