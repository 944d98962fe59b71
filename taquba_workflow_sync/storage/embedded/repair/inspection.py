"""Every row looked at: what must hold of it, and whether what it carries is what was stored."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.repair.tolerant import tolerant_snapshot
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.checking.jobs import RESTORE, why_damaged
from taquba_workflow_sync.storage.relational.columns import COLUMNS

_ROWS_AT_ONCE: Final = 200
_UNREADABLE: Final = (sqlite3.DatabaseError, MemoryError)


def inspect_rows(connections: Connections, most: int) -> list[str]:
    """Return what is wrong with the jobs, at most ``most`` sentences and how many more there are."""
    problems: list[str] = []
    left_out = 0
    after: int | None = 0
    while after is not None:
        with connections.reading() as connection:
            found, after = _inspect_some(connection, after)
        left_out += max(len(problems) + len(found) - most, 0)
        problems += found[: max(most - len(problems), 0)]
    return [*problems, f"{left_out} more jobs are damaged; {RESTORE}"] if left_out else problems


def _inspect_some(connection: sqlite3.Connection, after: int) -> tuple[list[str], int | None]:
    """Return what is wrong with the next rows, and the last one's number; None: there are no more."""
    with tolerant_snapshot(connection):
        try:
            rows: list[Any] = connection.execute(sql.ROWS_AFTER, (after, _ROWS_AT_ONCE)).fetchall()
            numbers = [row[0] for row in rows]
        except _UNREADABLE:
            # Go by an index around the rows on a damaged page.
            try:
                numbers = [seq for (seq,) in connection.execute(sql.NUMBERS_AFTER, (after, _ROWS_AT_ONCE)).fetchall()]
            except _UNREADABLE as error:
                return [f"jobs after row {after} cannot be read: {error}; {RESTORE}"], None
            rows = [None] * len(numbers)
        found = [why for seq, row in zip(numbers, rows, strict=True) if (why := _why_of(connection, seq, row))]
    if numbers and not all(one < other for one, other in zip([after, *numbers], numbers, strict=False)):
        return [*found, f"the rows after {after} are out of order, those behind are not looked at; {RESTORE}"], None
    return found, numbers[-1] if numbers else None


def _why_of(connection: sqlite3.Connection, seq: int, row: tuple[Any, ...] | None) -> str | None:
    """Return what is wrong with one row, or None; ``row`` None: it must be read by its number."""
    try:
        found = connection.execute(sql.WHOLE_ROW, (seq,)).fetchone() if row is None else row
        if found is None:
            return f"row {seq} is missing; {RESTORE}"
        return why_damaged(connection, dict(zip(COLUMNS, found, strict=True)))
    except _UNREADABLE as error:
        return f"the job of row {seq} cannot be read: {error}; {RESTORE}"
