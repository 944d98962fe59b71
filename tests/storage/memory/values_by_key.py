"""Values by key."""

from __future__ import annotations

from taquba_workflow_sync.errors import EffectConflictError
from taquba_workflow_sync.storage.port.effects import ComparePut, Put, value_after
from taquba_workflow_sync.storage.port.kv import PAGE_BYTES, Value, ValuePage
from tests.storage.memory.state import State
from tests.storage.memory.transaction import Transaction


def look(state: State, key: str, now_ms: int) -> Value | None:
    """Return what a key holds."""
    found = state.values.get(key)
    return found if found is not None and found.is_live(now_ms) else None


def write(tx: Transaction, key: str, value: Value | None) -> None:
    """Have a key hold a value, or nothing."""
    if value is None:
        tx.state.values.pop(key, None)
    else:
        tx.state.values[key] = value


def put(tx: Transaction, key: str, value: bytes, ttl_ms: int | None) -> None:
    """Have a key hold a value."""
    write(tx, key, value_after(Put(key, value, ttl_ms), None, tx.now_ms))


def delete(tx: Transaction, key: str) -> bool:
    """Have a key hold nothing; whether it held something."""
    held = look(tx.state, key, tx.now_ms) is not None
    write(tx, key, None)
    return held


def compare_put(tx: Transaction, key: str, expected: bytes | None, value: bytes) -> bool:
    """Exchange a value; whether it was what was expected."""
    try:
        after = value_after(ComparePut(key, expected, value), look(tx.state, key, tx.now_ms), tx.now_ms)
    except EffectConflictError:
        return False
    write(tx, key, after)
    return True


def compare_delete(tx: Transaction, key: str, expected: bytes) -> bool:
    """Drop a value; whether it was what was expected."""
    found = look(tx.state, key, tx.now_ms)
    if found is None or found.value != expected:
        return False
    write(tx, key, None)
    return True


def scan(state: State, now_ms: int, prefix: str, limit: int, cursor: str | None, *, reverse: bool) -> ValuePage:
    """Return some pairs by the bytes of their keys; a cursor is the last key that was shown, after a sign."""
    if cursor is not None and not cursor.startswith("key:"):
        raise ValueError(f"cursor {cursor!r} is none of ours")
    after = None if cursor is None else cursor[4:].encode()
    keys = sorted((key.encode() for key in state.values if key.startswith(prefix)), reverse=reverse)
    live = [key.decode() for key in keys if look(state, key.decode(), now_ms)]
    rest = [key for key in live if after is None or (key.encode() < after if reverse else key.encode() > after)]
    shown: list[tuple[str, bytes]] = []
    size = 0
    for key in rest[:limit]:
        value = state.values[key].value
        size += len(key.encode()) + len(value)
        if shown and size > PAGE_BYTES:
            break
        shown.append((key, value))
    return ValuePage(shown, f"key:{shown[-1][0]}" if len(rest) > len(shown) else None)


def expire(tx: Transaction, most: int) -> int:
    """Remove what has expired."""
    over = [key for key, value in tx.state.values.items() if not value.is_live(tx.now_ms)]
    for key in over[:most]:
        write(tx, key, None)
    return len(over[:most])
