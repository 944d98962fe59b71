"""Sessions of the server as the engine's statements see them: ``?`` for values, rows as tuples."""

from __future__ import annotations

import json
import select
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import RawCursor
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

from taquba_workflow_sync.storage.postgres.dialect import translated
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.overflow import Overflow

_INT8: Final = 20
_CONNECT_TIMEOUT_S: Final = 5
#: What is read of a session at most, before its end: why the server has ended it.
_FAREWELLS: Final = 3
#: The server's side of a link that is cut notices as soon as ours: until then it keeps our locks. Who has the store's
#: lock and was stopped (SIGSTOP, a suspended machine) keeps everyone waiting until its transaction is ended.
_SETTINGS: Final = (
    "-c timezone=UTC -c bytea_output=hex -c client_connection_check_interval=1s -c idle_session_timeout=0"
    " -c idle_in_transaction_session_timeout=5s"
    " -c tcp_keepalives_idle=3 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=8000"
)


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


_ADAPTERS: Final = _adapters()
_PLAIN: Final = frozenset({int, str, bytes, float, type(None)})


def _plain(value: Any) -> Any:
    """Return a value as the type that it is of, below any enumeration."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, int):
        return int(value)
    return str(value) if isinstance(value, str) else value


class _Special(NamedTuple):
    """What is done to the values of a statement, and to its rows: SQLite keeps what is given in any column."""

    before: Callable[[Any], Any]
    after: Callable[[Any, tuple[Any, ...]], tuple[Any, ...]]


def _as_they_are(_: Any, row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row


def _with_bytes(values: Sequence[Any]) -> Sequence[Any]:
    key, data = values
    return key, data.encode() if isinstance(data, str) else data


def _with_headers(values: Sequence[Any], row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (row[0].decode(),) if values[0] & 3 == Overflow.HEADERS else row


def _with_texts(values: Sequence[Any]) -> Sequence[Any]:
    job, token, done, total, note, at_ms = values
    return job, token, json.dumps(done), None if total is None else json.dumps(total), note, at_ms


def _with_numbers(_: Any, row: tuple[Any, ...]) -> tuple[Any, ...]:
    done, total, *rest = row
    return json.loads(done), None if total is None else json.loads(total), *rest


_SPECIAL: Final = {
    sql.PUT_OVERFLOW: _Special(_with_bytes, _as_they_are),
    sql.GET_OVERFLOW: _Special(tuple, _with_headers),
    sql.PUT_PROGRESS: _Special(_with_texts, _as_they_are),
    sql.GET_PROGRESS: _Special(tuple, _with_numbers),
}


class Cursor:
    """What a statement has returned; all of it is here."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[tuple[Any, ...]], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    @property
    def lastrowid(self) -> Any:
        """The number of the row that was inserted, by a statement that returns it."""
        return self._rows[0][0] if self._rows else None

    def change(self, change: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> None:
        """Have each row be another."""
        self._rows = [change(row) for row in self._rows]

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row."""
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows that are left."""
        rows, self._rows = self._rows, []
        return rows

    def close(self) -> None:
        """Let go of the rows that are left."""
        self._rows = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())


class Session:
    """One connection."""

    def __init__(self, raw: psycopg.Connection[Any], schema: str) -> None:
        self.raw = raw
        self.schema = schema
        #: How many rows were changed, ever.
        self.total_changes: int = 0

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.raw.info.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)

    def execute(self, statement: str, values: Any = (), /) -> Cursor:
        """Run one statement."""
        special = _SPECIAL.get(statement)
        if special is not None:
            values = special.before(values)
        found = self._execute(statement, values)
        if special is not None:
            found.change(lambda row: special.after(values, row))
        return found

    def _execute(self, statement: str, values: Sequence[Any]) -> Cursor:
        cursor: RawCursor[Any] = RawCursor(self.raw)
        cursor.execute(translated(statement, self.schema), [_plain(value) for value in values], prepare=True)
        if cursor.description is None:
            self.total_changes += max(cursor.rowcount, 0)
            return Cursor([], cursor.rowcount)
        if not cursor.statusmessage or not cursor.statusmessage.startswith("SELECT"):
            self.total_changes += max(cursor.rowcount, 0)
        return Cursor(cursor.fetchall(), cursor.rowcount)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each row of values."""
        for values in rows:
            self.execute(statement, values)

    def run(self, text: str) -> list[tuple[Any, ...]]:
        """Run statements without values in one message; returns the rows of the last one that has any."""
        cursor = self.raw.cursor()
        cursor.execute(text.encode())
        rows: list[tuple[Any, ...]] = []
        while True:
            if cursor.description is not None:
                rows = cursor.fetchall()
            if not cursor.nextset():
                return rows

    def is_readable(self) -> bool:
        """Whether the server has said anything that nobody has read, its end included: one system call."""
        if self.raw.closed:
            return True
        poll = select.poll()
        poll.register(self.raw.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def is_lost(self) -> bool:
        """Whether the server has ended the session, as far as can be seen without asking it."""
        for _ in range(_FAREWELLS):
            if self.raw.closed or not self.is_readable():
                break
            try:
                self.raw.pgconn.consume_input()
            except psycopg.Error:
                return True
        return bool(self.raw.closed)

    def close(self) -> None:
        """End the session."""
        self.raw.close()


def connect(dsn: str, schema: str, *, application: str = "taquba", options: str = "") -> Session:
    """Open a session on a store's schema; it sets nothing that a statement's meaning hangs on.

    Raises:
        psycopg.Error: it cannot be opened.
    """
    raw = psycopg.connect(
        dsn if "connect_timeout=" in dsn else make_conninfo(dsn, connect_timeout=_CONNECT_TIMEOUT_S),
        autocommit=True,
        context=None,
        application_name=application,
        options=f"{_SETTINGS} {options}",
        keepalives=1,
        keepalives_idle=3,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=8000,
    )
    raw.adapters.register_dumper(int, _Int8Dumper)
    raw.adapters.register_dumper(bool, _Int8Dumper)
    return Session(raw, schema)
