"""A directory as one side of a move."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.embedded import store
from taquba_workflow_sync.storage.embedded.checkpoint import CHECKPOINT_BYTES, Checkpointer
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.moved import find_move
from taquba_workflow_sync.storage.embedded.sqlite_errors import as_not_read, as_not_written, is_about_data
from taquba_workflow_sync.storage.embedded.writer import NotBegun, Writer
from taquba_workflow_sync.storage.moving.tables import META, Row, Table, checked, damaged, hidden, names
from taquba_workflow_sync.storage.port.store import OpenOptions, Store
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.data_errors import is_corrupt
from taquba_workflow_sync.storage.relational.moved import Move
from taquba_workflow_sync.storage.relational.overflow import Overflow
from taquba_workflow_sync.wakeup import WakeUp

#: Between two tries for the lock of the file; there are so many, in half a minute.
_RETRY: Final = 0.005
_TRIES: Final = 6000
_PLAIN: Final = OpenOptions()


class EmbeddedSide:
    """A directory."""

    def __init__(self, address: str) -> None:
        self.shown: str = store.shown(address)
        self._root = Path(self.shown)
        self._connections = Connections(self._root / "db", is_durable=True, wal_bytes=CHECKPOINT_BYTES)
        self._writer = Writer(self._connections, Checkpointer(self._root / "db", self._connections))
        self._connection: sqlite3.Connection | None = None

    @property
    def connection(self) -> sqlite3.Connection:
        """The one connection."""
        try:
            connection = self._connections.writer()
            if connection is not self._connection:
                # A store has views that cannot be read, for older programs: beside them SQLite would rename nothing.
                connection.execute("PRAGMA legacy_alter_table = ON")
                self._connection = connection
        except sqlite3.Error as error:
            raise as_not_read(error, self.shown) from error
        return connection

    def open(self, options: OpenOptions = _PLAIN) -> Store:
        """Open the store as everybody does."""
        return store.open_store(self.shown, options)

    def is_there(self) -> bool:
        """Whether there is a store."""
        return store.is_store(self.shown)

    def move(self) -> Move | None:
        """Return the move that is noted."""
        if not self.is_there():
            return None
        try:
            return find_move(self.connection)
        except sqlite3.Error as error:
            raise as_not_read(error, self.shown) from error

    def lock(self) -> None:
        """Do nothing: the other side keeps other moves away."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block as one transaction."""
        _ = self.connection
        try:
            self._begin()
            yield
            self.connection.execute(sql.COMMIT)
        except NotBegun as error:
            raise error.error from error
        except sqlite3.Error as error:
            raise as_not_written(error) from error
        finally:
            self._writer.roll_back()
        self._writer.checkpoint()

    def _begin(self) -> None:
        for last in range(_TRIES):
            if self._writer.begin(is_last=last + 1 == _TRIES) is not None:
                return
            WakeUp().wait(_RETRY)

    def hide(self) -> None:
        """Put the tables away."""
        self.connection.execute(sql.MAKE_GRAPHS)
        for name in names():
            self.connection.execute(f"ALTER TABLE {name} RENAME TO {hidden(name)}")

    def no_submits(self) -> AbstractContextManager[None]:
        """Do nothing, likewise."""
        return nullcontext()

    def has_arrivals(self) -> bool:
        """Return that there are none: programs have no transactions of their own here."""
        return False

    def show(self) -> None:
        """Have the tables be where they belong."""
        for name in names():
            self.connection.execute(f"ALTER TABLE {hidden(name)} RENAME TO {name}")

    def empty(self) -> None:
        """Remove every row of the tables put away."""
        for name in names()[1:]:
            self.connection.execute(f"DELETE FROM {hidden(name)}")
        self.connection.execute(f"DELETE FROM {META} WHERE key NOT IN ('schema', 'next_seq')")
        self.connection.execute(f"UPDATE {META} SET value = 1 WHERE key = 'next_seq'")

    def read(self, statement: str, values: Row = ()) -> list[Row]:
        """Return what a statement finds."""
        try:
            return self.connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise as_not_read(error, self.shown) from error

    def rows(self, table: Table, statement: str, values: Row) -> list[Row]:
        """Return rows of the table."""
        try:
            found = self.connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            if is_corrupt(error) or is_about_data(error):
                raise damaged(table, None, f"it cannot be read ({error})") from error
            raise as_not_read(error, self.shown) from error
        return [checked(table, _common(table, row)) for row in found]

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """Write rows into the table put away."""
        marks = ", ".join("?" * len(table.columns))
        statement = f"INSERT INTO {table.hidden} ({', '.join(table.columns)}) VALUES ({marks})"
        change = _STORED.get(table.name)
        for row in rows:
            try:
                self.connection.execute(statement, row if change is None else change(table, row))
            except sqlite3.IntegrityError as error:
                raise damaged(table, table.key_of(row), error) from error

    def go_on_after(self, tables: Sequence[Table]) -> None:
        """Do nothing: SQLite gives the number after the largest."""

    def close(self) -> None:
        """Let go of the connection."""
        with suppress(sqlite3.Error, StorageError):
            self._connections.close(for_good=True)


def _common(table: Table, row: Row) -> Row:
    """Return a row of SQLite's, which keeps what is given in any column, as the server's columns have it."""
    try:
        return tuple(_COMMON[kind](value) for kind, value in zip(table.kinds, row, strict=True))
    except (ValueError, TypeError) as error:
        raise damaged(table, table.key_of(row), error) from error


def _as_is(value: Any) -> Any:
    return value


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode()
    # The server's texts hold no NUL.
    return value.replace("\0", "\\x00") if isinstance(value, str) and "\0" in value else value


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _number(value: Any) -> str | None:
    if value is not None and type(value) not in (int, float):
        raise TypeError(f"{value!r:.80} is no number")
    return None if value is None else json.dumps(value)


_COMMON: Final[dict[str, Callable[[Any], Any]]] = {"INTEGER": _as_is, "TEXT": _text, "BLOB": _bytes, "": _number}


def _overflow(table: Table, row: Row) -> Row:
    """Headers are texts here."""
    key, data = row
    try:
        return key, data.decode() if key & 3 == Overflow.HEADERS else data
    except UnicodeDecodeError as error:
        raise damaged(table, (key,), error) from error


def _progress(table: Table, row: Row) -> Row:
    """What a step has done, of how much, are numbers here."""
    done, total = table.place("done"), table.place("total")
    try:
        return tuple(
            json.loads(value) if place in (done, total) and value is not None else value
            for place, value in enumerate(row)
        )
    except ValueError as error:
        raise damaged(table, table.key_of(row), error) from error


_STORED: Final[dict[str, Callable[[Table, Row], Row]]] = {sql.OVERFLOW: _overflow, sql.PROGRESS: _progress}
