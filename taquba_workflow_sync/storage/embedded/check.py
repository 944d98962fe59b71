"""What is wrong with a store: looked for without changing anything, a part at a time, in bounded memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from taquba_workflow_sync.storage.embedded.cache import stray_settings
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.repair.inspection import inspect_rows
from taquba_workflow_sync.storage.embedded.repair.tolerant import tolerant_snapshot
from taquba_workflow_sync.storage.embedded.sqlite_errors import is_about_data, lacks_a_name
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.checking.jobs import RESTORE
from taquba_workflow_sync.storage.relational.checking.parts import MOST, PARTS

_UPGRADE: Final = "no version of this library writes that: another program did; restore a backup"


def check(connections: Connections) -> list[str]:
    """Return what is wrong with the store, a sentence each with what to do; empty when nothing is.

    Others may work meanwhile. It reads every row and every payload: minutes for a large store, during which a fork
    waits at most for the part that is looked at.
    """
    problems: list[str] = []
    for what, look in _PARTS:
        with connections.reading() as connection:
            problems += _look(connection, what, look)
    return problems + inspect_rows(connections, MOST)


def _look(connection: sqlite3.Connection, what: str, look: Callable[[sqlite3.Connection], Iterator[str]]) -> list[str]:
    """Return what one part finds; what cannot be read is a finding."""
    found: list[str] = []
    try:
        with tolerant_snapshot(connection):
            for problem in look(connection):
                found.append(problem)
                if len(found) >= MOST:
                    return [*found, f"{what}: there is more than these {MOST}; {RESTORE}"]
    except (sqlite3.DatabaseError, MemoryError, ValueError, TypeError) as error:
        if isinstance(error, sqlite3.OperationalError) and not (is_about_data(error) or lacks_a_name(error)):
            raise
        found.append(f"{what} cannot be read: {error}; {RESTORE}")
    return found


def _pages(connection: sqlite3.Connection) -> Iterator[str]:
    for (line,) in connection.execute(sql.INTEGRITY):
        if line != "ok":
            yield f"the database is damaged: {line!s:.300}; {RESTORE}"


def _settings(connection: sqlite3.Connection) -> Iterator[str]:
    for key, held, wanted in stray_settings(connection):
        yield f"the setting {key} of the database is {held!r:.80} instead of {wanted!r}; open the store anew to set it"


def _schema(connection: sqlite3.Connection) -> Iterator[str]:
    row = connection.execute(sql.READ_META, ("schema",)).fetchone()
    if row != (sql.SCHEMA_VERSION,):
        yield f"the schema's version is {row!r:.80} instead of {sql.SCHEMA_VERSION}; {_UPGRADE}"
    with closing(sqlite3.connect(":memory:")) as fresh:
        for statement in sql.SCHEMA:
            fresh.execute(statement)
        wanted = _texts(fresh)
    held = _texts(connection)
    for name in sorted(wanted.keys() | held.keys()):
        if name not in held:
            yield f"{name} is missing from the database; {_UPGRADE}"
        elif name not in wanted:
            yield f"{name} in the database is none of this version; {_UPGRADE}"
        elif wanted[name] != held[name]:
            yield f"{name} in the database is defined otherwise: {held[name]!s:.200}; {_UPGRADE}"


def _texts(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the definitions, in the one spelling that a new and an upgraded store have in common."""
    return {
        name: "".join(str(text).replace('"', "").replace("IF NOT EXISTS", "").split())
        for name, text in connection.execute(sql.SCHEMA_TEXTS)
    }


_PARTS: Final = (
    ("the database's pages", _pages),
    ("the database's settings", _settings),
    ("the schema", _schema),
    *PARTS,
)
