"""Damage as a hand, a disk or another program leaves it: any value in any column, past every check of the schema."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from taquba_workflow_sync.storage.relational import sql

BIG: Final = 2**63 - 1


class Damage(NamedTuple):
    """A value that no column of the schema should hold; ``sql`` is what stands for it in an UPDATE."""

    name: str
    sql: str
    values: Callable[[str], Sequence[Any]]


def _same(name: str, value: Any) -> Damage:
    return Damage(name, "?", lambda _: (value,))


# What the unique columns take once each has the row's name in it.
DAMAGES: Final = (
    _same("null", None),
    Damage("text", "?", lambda row: (f"nonsense {row}",)),
    _same("empty", ""),
    Damage("bytes", "?", lambda row: (b"\xff\x00" + row.encode(),)),
    Damage("no utf-8", "CAST(? AS TEXT)", lambda row: (b"\xff\xfe\x80" + row.encode(),)),
    _same("huge", BIG),
    _same("negative", -BIG - 1),
    _same("minus one", -1),
    _same("zero", 0),
    _same("dangling", 999_999),
    _same("fraction", 1.5),
    _same("infinite", float("inf")),
    Damage("long", "?", lambda row: (row + "x" * 100_000,)),
    _same("control characters", "a\0b\n\x1b[31m"),
)
#: What certain columns could hold, only not here: the other statuses, headers and verdicts of other kinds.
MISPLACED: Final = {
    "status": ["pending", "scheduled", "claimed", "done", "dead", "cancelled", "PENDING"],
    "headers": ["[]", "5", "null", '{"a": 1}', '{"a": null}', '{"a": {}}', '{"a": "\\ud800"}', "[" * 100_000, "{"],
    "verdict": ["succeeded", "failed", "FAILED"],
    "subscription": ["[]", "5", "null", "{}", '{"lane": 5}', '{"lane": "x", "max_attempts": "y", "keep_dead_ms": null}',
                 '{"lane": "x", "max_attempts": 0, "keep_dead_ms": null}', "[" * 100_000, "{"],
    "belongings": [1, 2, 4, 7, 8],
    "cancel_requested": [1, 2],
    "token": ["x.1.1", "x.y.z", "..", "." * 1000, "x.1.9999999999999999999999"],
    "owner": ["../../etc/passwd", "/etc/passwd", "a/b", "1-00-x"],
    "keep_done_ms": [BIG // 2],
    "outcome": ["SUCCEEDED"],
    "max_attempts": [1],
    "attempts": [3, 4],
    "ordinal": [1, 2],
    "concurrency": [1.5],
    "position": [0.5],
    "rate_most": [1.5],
}  # fmt: skip


def damages_of(column: str) -> list[Damage]:
    """Return what to put into a column: every damage, and what other columns or rows may hold."""
    return [*DAMAGES, *(_same(f"misplaced {value!r:.30}", value) for value in MISPLACED.get(column, ()))]


def columns_of(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return every (table, column) of a database, as SQLite tells them."""
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return [
        (table, row[1])
        for table in sorted(tables)
        if not table.startswith("sqlite_")
        for row in connection.execute(f"PRAGMA table_info({table})")
    ]


def schema_columns() -> list[tuple[str, str]]:
    """Return every (table, column) of the engine's own schema; no store is made for it."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in sql.SCHEMA:
            connection.execute(statement)
        return columns_of(connection)


class Vandal:
    """Writes to a store's database past its constraints, through SQLite, as another program would."""

    def __init__(self, root: Path) -> None:
        self._database = root / "db" / "cache.db"

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._database, isolation_level=None, timeout=30)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        return connection

    def run(self, statement: str, *values: Any) -> list[Any]:
        """Run one statement."""
        with closing(self._connect()) as connection:
            return connection.execute(statement, values).fetchall()

    def spoil(self, table: str, column: str, where: str, rows: Sequence[tuple[str, Sequence[Any], Damage]]) -> int:
        """Put a damage into one column of each row; returns how many SQLite itself let through.

        ``rows``: a name for the value to carry, the values of ``where``, and the damage.
        """
        spoiled = 0
        with closing(self._connect()) as connection:
            with _nullable(connection, table):
                connection.execute("BEGIN IMMEDIATE")
                for name, key, damage in rows:
                    statement = f"UPDATE {table} SET {column} = {damage.sql} WHERE {where}"
                    # Refused by an index that must stay whole, or by the type of a rowid: no such row can exist.
                    with suppress(sqlite3.IntegrityError):
                        spoiled += connection.execute(statement, (*damage.values(name), *key)).rowcount
                connection.execute("COMMIT")
        return spoiled


class _nullable:  # reads as a statement
    """For the block, this connection's idea of a table knows no NOT NULL: a disk does not ask either."""

    def __init__(self, connection: sqlite3.Connection, table: str) -> None:
        self._connection = connection
        self._table = table

    def __enter__(self) -> None:
        (self._text,) = self._connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = ?", (self._table,)
        ).fetchone()
        self._write(re.sub(r"(?<!IS) NOT NULL", "", self._text))

    def __exit__(self, *_: object) -> None:
        self._write(self._text)

    def _write(self, text: str) -> None:
        execute = self._connection.execute
        execute("PRAGMA writable_schema = ON")
        execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (text, self._table))
        execute("PRAGMA writable_schema = RESET")
