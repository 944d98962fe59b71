"""Values by key, read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from taquba_workflow_sync.storage.port.kv import PAGE_BYTES, ValuePage, cursor_after, range_of
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.overflow import sound


def get(connection: Connection, now: Callable[[], int], key: str) -> bytes | None:
    """Return what a key holds, or None."""
    row = connection.execute(sql.GET_VALUE, (key.encode(),)).fetchone()
    if row is None:
        return None
    value, crc, expires_ms = row
    if type(expires_ms) is int and expires_ms <= now():
        return None
    return sound(f"value of key {key!r}", value, crc)


def scan(
    connection: Connection,
    now: Callable[[], int],
    prefix: str,
    limit: int,
    cursor: str | None,
    *,
    reverse: bool,
) -> ValuePage:
    """Return a page of what keys hold.

    Raises:
        ValueError: ``cursor`` is none of this store's.
    """
    statement = sql.SCAN_VALUES_BACK if reverse else sql.SCAN_VALUES
    lower, upper = range_of(prefix, cursor, reverse=reverse)
    items: list[tuple[str, bytes]] = []
    last, seen, size = b"", 0, 0
    with closing(connection.execute(statement, (lower, upper, now(), limit + 1))) as rows:
        for raw_key, value, crc in rows:
            size += len(raw_key) + (len(value) if type(value) is bytes else 0)
            if seen and (seen == limit or size > PAGE_BYTES):
                return ValuePage(items, cursor_after(last))
            last, seen = raw_key, seen + 1
            try:
                key = raw_key.decode()
            except UnicodeDecodeError:
                continue  # no key of anybody's: a check tells of it
            items.append((key, sound(f"value of key {key!r}", value, crc)))
    return ValuePage(items, None)
