"""Connections that programs give: psycopg's own, Django's, SQLAlchemy's; each is in the end one of psycopg's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg import RawCursor
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from taquba_workflow_sync.storage.postgres.dialect import translated
from taquba_workflow_sync.storage.postgres.sessions import Session
from taquba_workflow_sync.storage.postgres.values import Cursor

_INT8: Final = 20


class _Int8Dumper(Dumper):
    """Every number goes as a bigint: with the least type that fits, each size would be another statement."""

    oid = _INT8

    def dump(self, obj: int) -> bytes:
        return b"%d" % obj


def _adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    for kind in (int, bool):
        adapters.register_dumper(kind, _Int8Dumper)
    return adapters


#: How values go there and come back, whatever a program has taught its own connections.
_ADAPTERS: Final = _adapters()


class _OurCursor(RawCursor[Any]):
    """Rows and values as our statements mean them, whatever a program has set on its connection."""

    @property
    def adapters(self) -> AdaptersMap:
        return _ADAPTERS


class GivenSession(Session):
    """A program's connection as our statements see it: nothing is set on it, and nothing prepared.

    Through psycopg's cursors, unlike our own sessions: they begin the transaction that a program expects.
    """

    def _execute(self, statement: str, values: Sequence[Any]) -> Cursor:
        text = translated(statement, self.schema)
        cursor = _OurCursor(self.raw, row_factory=tuple_row)
        cursor.execute(text, [_plain(value) for value in values], prepare=False)
        if cursor.description is None:
            self._count(cursor.rowcount)
            return Cursor([], cursor.rowcount)
        if not (cursor.statusmessage or "").startswith("SELECT"):
            self._count(cursor.rowcount)
        return Cursor(cursor.fetchall(), cursor.rowcount)

    def run(self, text: str) -> list[tuple[Any, ...]]:
        """Run statements without values in one message; returns the rows of the last one."""
        cursor = _OurCursor(self.raw, row_factory=tuple_row)
        cursor.execute(text, prepare=False)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description is not None else []

    def close(self) -> None:
        """Do nothing: it is the program's."""


def _plain(value: Any) -> Any:
    if isinstance(value, int):
        return int(value)
    return str(value) if isinstance(value, str) else value


class GivenConnection:
    """One of psycopg's, and how transactions are made on it."""

    def __init__(self, raw: psycopg.Connection[Any], connection: Any) -> None:
        self.raw = raw
        #: What the program gave, and writes through.
        self.connection = connection

    @property
    def is_in_transaction(self) -> bool:
        """Whether a transaction is open, or the program has begun one that has sent nothing yet."""
        return self.raw.info.transaction_status != TransactionStatus.IDLE

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Take part in the program's transaction; where each statement is one, in a transaction of its own."""
        if self.raw.autocommit and not self.is_in_transaction:
            with self.raw.transaction():
                yield
        else:
            yield

    def begin(self) -> None:
        """Begin a transaction."""
        if self.raw.autocommit:
            self.raw.execute(b"BEGIN")

    def commit(self) -> None:
        """Commit it."""
        self.raw.commit()

    def roll_back(self) -> None:
        """Undo it."""
        self.raw.rollback()


class _Own(GivenConnection):
    """A connection that was opened for one transaction."""

    def commit(self) -> None:
        super().commit()
        with suppress(psycopg.Error):
            self.raw.close()

    def roll_back(self) -> None:
        self.raw.close()


def _do_nothing() -> None:
    pass


class _Djangos(GivenConnection):
    """A connection of Django's: it keeps its own books of transactions, so it is the one that begins and ends them."""

    _block: Any = None

    @property
    def is_in_transaction(self) -> bool:
        return bool(self.connection.in_atomic_block) or super().is_in_transaction

    def begin(self) -> None:
        from django.db import transaction

        # Durable: refused inside another block, whose end would be the transaction's.
        block = transaction.atomic(using=self.connection.alias, durable=True)
        block.__enter__()
        self._block = block
        # A worker closes old connections behind each step, before the transaction has ended: one inside a block has
        # not Django's own setting of autocommit, and so is taken for one to be dropped.
        self.connection.close_if_unusable_or_obsolete = _do_nothing

    def _end(self) -> Any:
        block, self._block = self._block, None
        if block is not None:
            del self.connection.close_if_unusable_or_obsolete
        return block

    def commit(self) -> None:
        self._end().__exit__(None, None, None)

    def roll_back(self) -> None:
        block = self._end()
        if block is not None:
            self.connection.set_rollback(True)
            block.__exit__(None, None, None)


class _SQLAlchemys(GivenConnection):
    """A connection or session of SQLAlchemy's: it commits what it knows to have begun."""

    def __init__(self, raw: psycopg.Connection[Any], connection: Any, below: Any, *, was_begun: bool) -> None:
        super().__init__(raw, connection)
        self._below = below
        self._was_begun = was_begun

    @property
    def is_in_transaction(self) -> bool:
        return self._was_begun or super().is_in_transaction

    @contextmanager
    def joined(self) -> Iterator[None]:
        if not self._below.in_transaction() and not self.raw.autocommit:
            self._below.exec_driver_sql("SELECT 1")  # has it begun: else the program's commit would do nothing
        with super().joined():
            yield

    def begin(self) -> None:
        if not self.connection.in_transaction():  # a session has begun by being asked for its connection
            self.connection.begin()

    def commit(self) -> None:
        self.connection.commit()

    def roll_back(self) -> None:
        self.connection.rollback()


def own(raw: psycopg.Connection[Any]) -> GivenConnection:
    """Return a connection that is closed with the one transaction that is made on it."""
    return _Own(raw, raw)


def given(connection: Any) -> GivenConnection:
    """Return what a program gave as a connection that transactions can be made on.

    Raises:
        TypeError: it is none, or not one of psycopg 3.
    """
    if isinstance(connection, psycopg.Connection):
        return GivenConnection(connection, connection)
    if hasattr(connection, "in_atomic_block") and hasattr(connection, "ensure_connection"):
        connection.ensure_connection()
        return _Djangos(_checked(connection.connection, "Django's"), connection)
    if any(each.__module__.split(".")[0] == "sqlalchemy" for each in type(connection).__mro__):
        return _of_sqlalchemy(connection)
    raise TypeError(
        "connection must be one of psycopg, Django or SQLAlchemy (a Connection or Session) to the store's database, not"
        f" {type(connection).__name__}"
    )


def _of_sqlalchemy(connection: Any) -> GivenConnection:
    if hasattr(connection, "registry"):
        connection = connection.registry()  # a scoped_session's of this thread
    if not hasattr(connection, "exec_driver_sql") and not hasattr(connection, "in_transaction"):
        raise TypeError(f"connection must be a Connection or Session of SQLAlchemy, not {type(connection).__name__}")
    was_begun = bool(connection.in_transaction())
    below = connection if hasattr(connection, "exec_driver_sql") else connection.connection()
    raw = _checked(getattr(below.connection, "driver_connection", None), "SQLAlchemy's")
    return _SQLAlchemys(raw, connection, below, was_begun=was_begun)


def _checked(raw: Any, whose: str) -> psycopg.Connection[Any]:
    if not isinstance(raw, psycopg.Connection):
        kind = f"{type(raw).__module__}.{type(raw).__name__}"
        raise TypeError(f"{whose} connection must be one of psycopg 3 below, not {kind}; use its driver psycopg")
    return raw
