"""Values by key."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.sql.names import table

KV: Final = table("kv")


SCHEMA_OF_KV: Final = (
    f"""CREATE TABLE IF NOT EXISTS {KV} (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        value BLOB NOT NULL,
        crc INTEGER NOT NULL,
        expires_ms INTEGER
    )""",
    f"""CREATE INDEX IF NOT EXISTS taquba_kv_expiry ON {KV} (expires_ms) WHERE expires_ms IS NOT NULL""",
)


GET_VALUE = f"SELECT value, crc, expires_ms FROM {KV} WHERE key = ?"


PUT_VALUE = f"""INSERT INTO {KV} (key, value, crc, expires_ms) VALUES (?, ?, ?, ?) ON CONFLICT (key)
    DO UPDATE SET value = excluded.value, crc = excluded.crc, expires_ms = excluded.expires_ms"""


DROP_VALUE = f"DELETE FROM {KV} WHERE key = ?"


# one page, from the first key of its range or from the last one
_SCAN = f"""SELECT key, value, crc FROM {KV} WHERE key >= ? AND key < ?
    AND (expires_ms IS NULL OR expires_ms > ?) ORDER BY key"""
SCAN_VALUES = f"{_SCAN} LIMIT ?"


SCAN_VALUES_BACK = f"{_SCAN} DESC LIMIT ?"


# expire: what holds nothing any more, and how much of it
EXPIRED_VALUES = f"""SELECT id, ifnull(length(value), 0) FROM {KV} INDEXED BY taquba_kv_expiry
    WHERE expires_ms IS NOT NULL AND expires_ms <= ? LIMIT ?"""


# a check: every value there is, some at a time
VALUES_AFTER = f"SELECT id, key, value, crc FROM {KV} WHERE id > ? ORDER BY id LIMIT ?"


DROP_EXPIRED_VALUE = f"DELETE FROM {KV} WHERE id = ?"
