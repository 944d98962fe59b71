"""A step's end in a transaction of the program's: both are committed, or neither is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from taquba_workflow_sync.errors import StepError, StorageError, TaqubaError
from taquba_workflow_sync.failpoints import Failpoint
from taquba_workflow_sync.storage.port.own import OutcomeUnknownError
from taquba_workflow_sync.storage.port.settlement import Settlement, UnstorableError
from taquba_workflow_sync.storage.postgres.arrivals import HAVE_COME, take_over
from taquba_workflow_sync.storage.postgres.commit import LOCK_TIMEOUT_S, NoBootClock
from taquba_workflow_sync.storage.postgres.connections import Connections
from taquba_workflow_sync.storage.postgres.errors import first_line
from taquba_workflow_sync.storage.postgres.given import GivenConnection, GivenSession, given, own
from taquba_workflow_sync.storage.postgres.names import Names
from taquba_workflow_sync.storage.postgres.outside import Outside
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.data_errors import DamagedDatabaseError, InvalidDataError
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.settle import settle
from taquba_workflow_sync.storage.relational.unreadable import Unreadable
from taquba_workflow_sync.wakeup import WakeUp

_log = logging.getLogger(__name__)

#: A transaction that nothing is sent in for so long is ended by the server: the rows that it has locked are others'.
IDLE_TIMEOUT_S: Final = 60
_ASK_AGAIN: Final = 0.05
_XACT: Final = "SELECT CAST(pg_current_xact_id() AS TEXT)"
_COUNT: Final = f"UPDATE {sql.META} SET value = value + 1 WHERE key = 'commits' RETURNING value"

#: Told of a commit: the queues that have work, the runs that have ended, and how many commits there were.
Committed = Callable[[frozenset[str], frozenset[str], int], None]


class OwnSettings:
    """What the transactions of one handle have in common."""

    def __init__(
        self,
        connections: Connections,
        outside: Outside,
        *,
        owner: Callable[[], str],
        read_clock: Callable[[], int] | None,
        committed: Committed,
        failpoint: Failpoint | None,
    ) -> None:
        self.connections = connections
        self.outside = outside
        self.owner = owner
        self.read_clock = read_clock
        self.committed = committed
        self._failpoint = failpoint

    def at(self, point: str) -> None:
        """Pass a point where a test may end the process."""
        if self._failpoint is not None:
            self._failpoint(f"own:{point}")


class PostgresOwnTransaction:
    """One transaction of a program's that a step ends with; see :class:`OwnTransaction`."""

    def __init__(self, settings: OwnSettings, connection: Any) -> None:
        """Begin it.

        Raises:
            TypeError, ValueError: the connection is none, or is inside a transaction, or reads as of its beginning.
            StoreMismatchError: it leads to another database.
            StorageError: none can be opened.
        """
        self._settings = settings
        self._is_over = False
        self._given = self._opened() if connection is None else given(connection)
        self._session = GivenSession(self._given.raw, settings.connections.address.schema)
        if self._given.is_in_transaction:
            raise ValueError(
                "the connection given to step.transaction is inside a transaction; commit or roll back that first"
            )
        self._given.begin()
        try:
            self._xid = self._begin()
        except BaseException:
            self.roll_back()
            raise

    @property
    def connection(self) -> Any:
        """What the program writes through."""
        return self._given.connection

    def _opened(self) -> GivenConnection:
        try:
            return own(self._settings.connections.open_for_program())
        except psycopg.Error as error:
            raise StorageError(f"cannot open a connection for the step: {first_line(error)}") from error

    def _begin(self) -> str:
        session = self._session
        self._settings.outside.prove(session)
        ((isolation, timeout),) = session.execute(
            "SELECT current_setting('transaction_isolation'), current_setting('idle_in_transaction_session_timeout')"
        ).fetchall()
        if isolation != "read committed":
            raise ValueError(
                f"the connection given to step.transaction is at {isolation.upper()}; the end of a step writes what"
                " others have written meanwhile, which needs READ COMMITTED"
            )
        if timeout == "0":
            session.run(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_TIMEOUT_S}s'")
        ((xid,),) = session.execute(_XACT).fetchall()
        return str(xid)

    def roll_back(self) -> None:
        """Undo it; idempotent."""
        if not self._is_over:
            self._is_over = True
            with suppress(Exception):
                self._given.roll_back()

    def settle(self, settlement: Settlement, gives_up: Callable[[], bool]) -> TaqubaError | None:
        """Commit it with a settlement; see :meth:`OwnTransaction.settle`."""
        try:
            self._check(gives_up)
            tx, commits, refusal = self._apply(settlement)
        except BaseException:
            self.roll_back()
            raise
        if refusal is not None:
            self.roll_back()
            return refusal
        self._settings.at("before-commit")
        self._commit(gives_up)
        self._settings.at("after-commit")
        try:
            self._settings.committed(frozenset(tx.woken), frozenset(tx.ended), commits)
        except Exception:
            _log.exception("a listener failed after a commit, which happened")
        return None

    def _check(self, gives_up: Callable[[], bool]) -> None:
        """Look whether it is the transaction that was begun.

        Raises:
            StepError: the program has ended it.
            StorageError: it is lost, or an error has spoilt it.
        """
        raw = self._given.raw
        if raw.closed and getattr(raw, "broken", False):
            if not self._was_committed(gives_up):
                raise StorageError("the connection of step.transaction was lost; everything in it is undone")
        elif not raw.closed:
            status = raw.info.transaction_status
            if status == TransactionStatus.INERROR:
                raise StorageError(
                    "the transaction of the step is spoilt by an error of the server that the block has not let out"
                )
            if status == TransactionStatus.INTRANS and self._session.execute(_XACT).fetchall() == [(self._xid,)]:
                return
        raise StepError.permanent(
            "the transaction of step.transaction was committed, rolled back or closed before the step had returned;"
            " its end would not be in one commit with what was written, so it was not settled"
        )

    def _apply(self, settlement: Settlement) -> tuple[Transaction, int, TaqubaError | None]:
        session, settings = self._session, self._settings
        address = settings.connections.address
        now_ms = None if settings.read_clock is None else settings.read_clock()
        # Before the lock: a constraint may wait for the rows of another transaction, which may wait for ours.
        session.run("SET CONSTRAINTS ALL IMMEDIATE")
        session.run(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'")
        settings.at("before-lock")
        session.execute("SELECT pg_advisory_xact_lock(?)", (address.key("writer"),))
        ((server_ms,),) = session.run("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
        tx = Transaction(
            session,
            server_ms if now_ms is None else now_ms,
            settings.owner(),
            NoBootClock(),
            delays_by_boot_clock=False,
            unreadable=Unreadable(),
        )
        while session.execute(HAVE_COME).fetchall() != [(None,)]:
            take_over(tx)
        tx.take_name = Names(session, address).take
        try:
            settle(tx, settlement)
            tx.finish()
        except (InvalidDataError, DamagedDatabaseError, psycopg.DataError, psycopg.IntegrityError) as error:
            return tx, 0, UnstorableError(f"cannot be stored: {type(error).__name__}: {first_line(error)}")
        except TaqubaError as error:
            return tx, 0, error
        ((commits,),) = session.execute(_COUNT).fetchall()
        return tx, commits, None

    def _commit(self, gives_up: Callable[[], bool]) -> None:
        """Commit; where that raises, ask the server what became of it.

        Raises:
            StorageError: it was rolled back.
            OutcomeUnknownError: nobody can be asked.
            Exception: the server has refused the commit.
        """
        self._is_over = True
        try:
            self._given.commit()
        except BaseException as error:
            if self._was_committed(gives_up):
                return
            with suppress(Exception):
                self._given.roll_back()
            if isinstance(error, psycopg.Error) and error.sqlstate:
                raise
            raise StorageError(f"the transaction of the step was rolled back: {first_line(error)}") from error

    def _was_committed(self, gives_up: Callable[[], bool]) -> bool:
        """Return whether it was, once the server says so.

        Raises:
            OutcomeUnknownError: ``gives_up`` said that it is not to be waited for any more.
        """
        question = "SELECT pg_xact_status(CAST(CAST(? AS TEXT) AS xid8))"
        pause, has_told = WakeUp(), False
        while True:
            try:
                with closing(self._settings.connections.open("asking")) as session:
                    ((status,),) = session.execute(question, (self._xid,)).fetchall()
                if status != "in progress":
                    return bool(status == "committed")
            except psycopg.errors.InvalidParameterValue:
                return False  # a server that has never had it: another has taken over
            except (psycopg.Error, TaqubaError) as error:
                if not has_told:
                    has_told = True
                    _log.warning("cannot ask whether a step's transaction was committed: %s", first_line(error))
            if gives_up():
                raise OutcomeUnknownError("whether the transaction of the step was committed is not known")
            pause.wait(_ASK_AGAIN)
