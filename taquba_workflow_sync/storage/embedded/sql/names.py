"""The tables' names, and lists of columns made from the rows that are read and written.

The names carry the schema's version: each version's tables refuse the statements of the one before. Only
``taquba_meta``, where every program reads the version, keeps its name.
"""

from __future__ import annotations

from typing import Any, Final

SCHEMA_VERSION: Final = 2

META: Final = "taquba_meta"
QUEUE: Final = f"taquba_queue_{SCHEMA_VERSION}"
JOB: Final = f"taquba_job_{SCHEMA_VERSION}"
OVERFLOW: Final = f"taquba_overflow_{SCHEMA_VERSION}"
ATTEMPT: Final = f"taquba_attempt_{SCHEMA_VERSION}"


def columns(row: type[Any], prefix: str = "") -> str:
    """Return the columns that a row is made of, in its order."""
    return ", ".join(prefix + field for field in row._fields)


def insert(table: str, row: type[Any]) -> str:
    """Return the statement that writes such a row."""
    return f"INSERT INTO {table} ({columns(row)}) VALUES ({', '.join('?' * len(row._fields))})"
