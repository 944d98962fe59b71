"""Every row looked at: what must hold of it, and whether what it carries is what was stored."""

from __future__ import annotations

import sqlite3
from hashlib import sha256
from typing import Any, Final

from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.repair.invalid import why_invalid
from taquba_workflow_sync.storage.embedded.repair.tolerant import tolerant_snapshot
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.columns import COLUMNS
from taquba_workflow_sync.storage.relational.overflow import Overflow, is_changed

_ROWS_AT_ONCE: Final = 200
_UNREADABLE: Final = (sqlite3.DatabaseError, MemoryError)
_RESTORE: Final = "restore a backup (docs/operations.md)"
_SUBMIT_AGAIN: Final = "submit the run again with its input, or restore a backup"


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
    return [*problems, f"{left_out} more jobs are damaged; {_RESTORE}"] if left_out else problems


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
                return [f"jobs after row {after} cannot be read: {error}; {_RESTORE}"], None
            rows = [None] * len(numbers)
        found = [why for seq, row in zip(numbers, rows, strict=True) if (why := _why_of(connection, seq, row))]
    if numbers and not all(one < other for one, other in zip([after, *numbers], numbers, strict=False)):
        return [*found, f"the rows after {after} are out of order, those behind are not looked at; {_RESTORE}"], None
    return found, numbers[-1] if numbers else None


def _why_of(connection: sqlite3.Connection, seq: int, row: tuple[Any, ...] | None) -> str | None:
    """Return what is wrong with one row, or None; ``row`` None: it must be read by its number."""
    try:
        found = connection.execute(sql.WHOLE_ROW, (seq,)).fetchone() if row is None else row
        if found is None:
            return f"row {seq} is missing; {_RESTORE}"
        return _why(connection, dict(zip(COLUMNS, found, strict=True)))
    except _UNREADABLE as error:
        return f"the job of row {seq} cannot be read: {error}; {_RESTORE}"


def _why(connection: sqlite3.Connection, row: dict[str, Any]) -> str | None:
    who = f"job {row['id']!r:.80} (row {row['seq']})"
    wrong = why_invalid(row)
    if wrong is not None:
        return f"{who} is damaged: {wrong}; the next transition that meets it makes it a dead letter"
    for kind in Overflow:
        column = COLUMNS[kind.name.lower()]
        wanted: Any = column.kind
        data = row[column.name]
        if row["belongings"] & 1 << kind:
            found = connection.execute(sql.GET_OVERFLOW, (row["seq"] * 4 + kind,)).fetchone()
            data = None if found is None else found[0]
        is_missing = data is None and (row["belongings"] & 1 << kind or kind is not Overflow.RESULT)
        if is_missing or (data is not None and type(data) is not wanted):
            return f"the {column.name} of {who} is missing or of another type; {_SUBMIT_AGAIN}"
        if is_changed(data, row[f"{column.name}_crc"]):
            return f"the {column.name} of {who} is not what was stored: its checksum differs; {_SUBMIT_AGAIN}"
        is_input = kind is Overflow.PAYLOAD and row["step"] == 0 and row["input_hash"] is not None
        is_input = is_input and not row["belongings"] & Belonging.OTHER_INPUT
        if is_input and sha256(data).digest() != row["input_hash"]:
            return f"the input of {who} is not what was submitted: its SHA-256 differs; {_SUBMIT_AGAIN}"
    return None
