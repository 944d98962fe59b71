"""Values by key, written."""

from __future__ import annotations

from taquba_workflow_sync.errors import EffectConflictError
from taquba_workflow_sync.storage.port.effects import ComparePut, value_after
from taquba_workflow_sync.storage.port.kv import Value
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.data_errors import InvalidDataError
from taquba_workflow_sync.storage.relational.overflow import checksum, is_changed
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.garbage import MOST_BYTES


def look(tx: Transaction, key: str) -> Value | None:
    """Return what a key holds, expired or not.

    Raises:
        InvalidDataError: it is not what was stored.
    """
    row = tx.execute(sql.GET_VALUE, (key.encode(),)).fetchone()
    if row is None:
        return None
    value, crc, expires_ms = row
    if type(value) is not bytes or type(crc) is not int or is_changed(value, crc):
        raise InvalidDataError(f"the value of key {key!r} is damaged: it is not what was stored; put or delete the key")
    return Value(value, expires_ms if type(expires_ms) is int else None)


def write(tx: Transaction, key: str, value: Value | None) -> bool:
    """Have a key hold a value, or nothing; whether a row was written."""
    if value is None:
        return tx.execute(sql.DROP_VALUE, (key.encode(),)).rowcount > 0
    data = value.value
    tx.execute(sql.PUT_VALUE, (key.encode(), data, checksum(data), value.expires_ms))
    return True


def put(tx: Transaction, key: str, value: bytes, ttl_ms: int | None) -> None:
    """Have a key hold a value."""
    tx.transitions.add("kv")
    write(tx, key, Value(value, None if ttl_ms is None else tx.now_ms + ttl_ms))


def delete(tx: Transaction, key: str) -> bool:
    """Have a key hold nothing; whether it held something, which may be damaged."""
    row = tx.execute(sql.GET_VALUE, (key.encode(),)).fetchone()
    if row is None:
        return False
    _, _, expires_ms = row
    tx.transitions.add("kv")
    write(tx, key, None)
    return type(expires_ms) is not int or tx.now_ms < expires_ms


def compare_put(tx: Transaction, key: str, expected: bytes | None, value: bytes) -> bool:
    """Have a key hold a value if it holds what is expected; whether it did."""
    try:
        after = value_after(ComparePut(key, expected, value), look(tx, key), tx.now_ms)
    except EffectConflictError:
        return False
    tx.transitions.add("kv")
    return write(tx, key, after)


def compare_delete(tx: Transaction, key: str, expected: bytes) -> bool:
    """Have a key hold nothing if it holds what is expected; whether it did."""
    found = look(tx, key)
    if found is None or not found.is_live(tx.now_ms) or found.value != expected:
        return False
    tx.transitions.add("kv")
    return write(tx, key, None)


def expire(tx: Transaction, most_rows: int) -> int:
    """Remove a piece of what has expired; returns how many rows went."""
    removed = size = 0
    for row, row_size in tx.execute(sql.EXPIRED_VALUES, (tx.now_ms, max(most_rows, 0))).fetchall():
        tx.transitions.add("expire")
        tx.execute(sql.DROP_EXPIRED_VALUE, (row,))
        removed, size = removed + 1, size + row_size
        if size >= MOST_BYTES:
            break
    return removed


def has_expired(connection: Connection, now_ms: int) -> bool:
    """Whether anything has expired and is stored yet."""
    return connection.execute(sql.EXPIRED_VALUES, (now_ms, 1)).fetchone() is not None
