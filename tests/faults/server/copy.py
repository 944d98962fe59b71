"""A server's store as the checker reads it: copied, as of one moment, into a database of SQLite in memory.

The copy is made of the tables' own rows by the driver alone: what the package reads and how is not part of it.
"""

from __future__ import annotations

import json
import re
import sqlite3
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from taquba_workflow_sync.storage.relational import sql

_TABLE: Final = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)")


def split_url(url: str) -> tuple[str, str]:
    """Return how the server is reached, and the schema."""
    parts = urlsplit(url)
    options = parse_qsl(parts.query)
    schema = dict(options).get("schema", "taquba")
    rest = urlencode([each for each in options if each[0] != "schema"])
    return urlunsplit(parts._replace(query=rest)), schema


def copied(url: str) -> sqlite3.Connection:
    """Return a copy of the store."""
    import psycopg

    dsn, schema = split_url(url)
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("CREATE TABLE Cache (rowid INTEGER PRIMARY KEY)")
    for statement in sql.SCHEMA:
        if not statement.startswith("CREATE TRIGGER"):
            connection.execute(statement)
    with psycopg.connect(dsn) as server:
        server.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for statement in sql.SCHEMA:
            matched = _TABLE.match(statement)
            if matched is None:
                continue
            table = matched[1]
            there = server.execute("SELECT to_regclass(%s) IS NOT NULL", (f'"{schema}".{table}',)).fetchone()
            if there is None or not there[0]:
                continue
            cursor = server.execute(f'SELECT * FROM "{schema}".{table}'.encode())
            assert cursor.description is not None
            names = [each.name for each in cursor.description]
            places = ",".join("?" * len(names))
            connection.execute(f"DELETE FROM {table}")
            connection.executemany(
                f"INSERT INTO {table} ({','.join(names)}) VALUES ({places})",
                [tuple(_value(each) for each in row) for row in cursor],
            )
    return connection


def _value(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return int(value) if isinstance(value, bool) else value
