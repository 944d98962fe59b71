"""Values by key: the store's own, of no job; ordered by the bytes of their keys."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Protocol

_CURSOR: Final = re.compile(r"(?:[0-9a-f]{2}){1,512}\Z")
#: The most bytes of keys and values that a page has; what is larger is a page of its own.
PAGE_BYTES: Final = 8 * 2**20
#: Above every key: no UTF-8 begins so.
_ABOVE_ALL: Final = b"\xff"


class Value(NamedTuple):
    """What a key holds; ``expires_ms``: from when on it holds nothing. None: for ever."""

    value: bytes
    expires_ms: int | None = None

    def is_live(self, now_ms: int) -> bool:
        """Whether it is there yet."""
        return self.expires_ms is None or now_ms < self.expires_ms


class ValuePage(NamedTuple):
    """Some (key, value) pairs in the order of the keys, and where the next page begins; None on the last one."""

    items: list[tuple[str, bytes]]
    next_cursor: str | None


class KeyValues(Protocol):
    """Values that programs and steps share. An expired one is absent everywhere; a write of a value ends its expiry."""

    def kv_get(self, key: str) -> bytes | None:
        """Return what a key holds, or None."""
        ...

    def kv_scan(self, prefix: str, limit: int, cursor: str | None, *, reverse: bool) -> ValuePage:
        """Return up to ``limit`` pairs whose keys begin with ``prefix``, from where ``cursor``, a page's own, says.

        A page has at most :data:`PAGE_BYTES`, and one pair at least if there is any: it may be short and not the last.

        Raises:
            ValueError: ``cursor`` is none of this store's.
        """
        ...

    def kv_put(self, key: str, value: bytes, ttl_ms: int | None) -> None:
        """Have a key hold a value, for ``ttl_ms`` from now or for ever."""
        ...

    def kv_delete(self, key: str) -> bool:
        """Have a key hold nothing; whether it held something."""
        ...

    def kv_compare_put(self, key: str, expected: bytes | None, value: bytes) -> bool:
        """Have a key hold a value if it holds ``expected`` (None: nothing); whether it did."""
        ...

    def kv_compare_delete(self, key: str, expected: bytes) -> bool:
        """Have a key hold nothing if it holds ``expected``; whether it did."""
        ...


def range_of(prefix: str, cursor: str | None, *, reverse: bool) -> tuple[bytes, bytes]:
    """Return the first key of the rest of a scan, and the first one after it.

    Raises:
        ValueError: ``cursor`` is none of ours.
    """
    lower = prefix.encode()
    upper = lower[:-1] + bytes([lower[-1] + 1]) if lower else _ABOVE_ALL
    if cursor is None:
        return lower, upper
    if not _CURSOR.match(cursor):
        raise ValueError(f"cursor {cursor[:40]!r} is none of ours; pass a page's next_cursor unchanged")
    shown = bytes.fromhex(cursor)
    return (lower, min(upper, shown)) if reverse else (max(lower, shown + b"\0"), upper)


def cursor_after(key: bytes) -> str:
    """Return where the page begins that comes after one whose last key is ``key``."""
    return key.hex()
