"""Payloads, headers and results over 2 KiB: they live in rows of their own."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

INLINE_BYTES: Final = 2048


class Overflow(IntEnum):
    """The columns that move to a row of their own when they are large; the value is the low bits of its key."""

    PAYLOAD = 0
    HEADERS = 1
    RESULT = 2


def size_of(data: bytes | str) -> int:
    """Return how many bytes the database needs for ``data``."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
