"""The tables' names, and lists of columns made from the rows that are read and written.

The names carry the schema's version: each version's tables refuse the statements of the one before. Only
``taquba_meta``, where every program reads the version, keeps its name.
"""

from __future__ import annotations

from typing import Any, Final

SCHEMA_VERSION: Final = 4

META: Final = "taquba_meta"


def table(name: str) -> str:
    """Return what a table is called in this version."""
    return f"taquba_{name}_{SCHEMA_VERSION}"


QUEUE: Final = table("queue")
JOB: Final = table("job")
OVERFLOW: Final = table("overflow")
ATTEMPT: Final = table("attempt")
GROUP: Final = table("group")
MEMBER: Final = table("member")
PARENT: Final = table("parent")
CHILD: Final = table("child")


def columns(row: type[Any], prefix: str = "") -> str:
    """Return the columns that a row is made of, in its order."""
    return ", ".join(prefix + field for field in row._fields)


def number(column: str) -> str:
    """Return what reads a column as a number, or NULL where a damaged one holds something else."""
    return f"CASE typeof({column}) WHEN 'integer' THEN {column} END"


def insert(table: str, row: type[Any]) -> str:
    """Return the statement that writes such a row."""
    return f"INSERT INTO {table} ({columns(row)}) VALUES ({', '.join('?' * len(row._fields))})"
