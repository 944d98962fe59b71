"""What is wrong with a store: looked for without changing anything, a part at a time, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import psycopg

from taquba_workflow_sync.storage.postgres.access import Access
from taquba_workflow_sync.storage.postgres.dialect import tables
from taquba_workflow_sync.storage.postgres.errors import first_line
from taquba_workflow_sync.storage.postgres.sessions import Session
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.checking.jobs import RESTORE, why_damaged
from taquba_workflow_sync.storage.relational.checking.parts import MOST, PARTS
from taquba_workflow_sync.storage.relational.columns import COLUMNS

_ROWS_AT_ONCE: Final = 200
_COLUMNS_THERE: Final = """SELECT c.relname, a.attname FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = ? AND c.relkind IN ('r', 'p')"""
#: What the server says of pages that it cannot read, or of values that are none of their type.
_OF_DATA: Final = (psycopg.DataError, psycopg.InternalError)


def check(access: Access) -> list[str]:
    """Return what is wrong with the store, a sentence each with what to do; empty when nothing is.

    Others may work meanwhile. It reads every row and every payload, each part as it was at one moment.

    Raises:
        StorageError: the server cannot be reached.
    """
    problems = access.read(_look, "the tables", _tables)
    if problems:
        return problems  # the rest would fail for the same reason
    for what, look in PARTS:
        problems += access.read(_look, what, look)
    return problems + _jobs(access)


def _look(session: Session, what: str, look: Callable[[Any], Iterator[str]]) -> list[str]:
    """Return what one part finds, as of one moment; what cannot be read is a finding."""
    found: list[str] = []
    session.execute("BEGIN")
    try:
        for problem in look(session):
            found.append(problem)
            if len(found) >= MOST:
                return [*found, f"{what}: there is more than these {MOST}; {RESTORE}"]
    except (ValueError, TypeError) as error:
        found.append(f"{what} cannot be read: {error}; {RESTORE}")
    except _OF_DATA as error:
        found.append(f"{what} cannot be read: {first_line(error)}; {RESTORE}")
    finally:
        session.execute(sql.ROLLBACK)
    return found


def _tables(session: Session) -> Iterator[str]:
    there: dict[str, set[str]] = {}
    for table, column in session.execute(_COLUMNS_THERE, (session.schema,)).fetchall():
        there.setdefault(table, set()).add(column)
    for name, table in tables().items():
        if name not in there:
            yield f"the table {name} is missing from schema {session.schema!r}; {RESTORE}"
            continue
        for column in sorted(table.columns.keys() - there[name]):
            yield f"the column {column} of table {name} is missing from schema {session.schema!r}; {RESTORE}"


def _jobs(access: Access) -> list[str]:
    """Return what is wrong with the jobs, at most so many sentences and how many more there are."""
    problems: list[str] = []
    left_out = 0
    after: int | None = 0
    while after is not None:
        found, after = access.read(_some_jobs, after)
        left_out += max(len(problems) + len(found) - MOST, 0)
        problems += found[: max(MOST - len(problems), 0)]
    return [*problems, f"{left_out} more jobs are damaged; {RESTORE}"] if left_out else problems


def _some_jobs(session: Session, after: int) -> tuple[list[str], int | None]:
    """Return what is wrong with the next jobs, and the last one's number; None: there are no more."""
    session.execute("BEGIN")
    try:
        rows = session.execute(sql.ROWS_AFTER, (after, _ROWS_AT_ONCE)).fetchall()
        told = [why_damaged(session, dict(zip(COLUMNS, row, strict=True))) for row in rows]
        return [why for why in told if why is not None], rows[-1][0] if rows else None
    except _OF_DATA as error:
        return [f"jobs after row {after} cannot be read: {first_line(error)}; {RESTORE}"], None
    finally:
        session.execute(sql.ROLLBACK)
