"""Payloads, headers and results: what is large lives in a row of its own, and each has a checksum."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final
from zlib import crc32

from taquba_workflow_sync.errors import StorageError

INLINE_BYTES: Final = 2048


class Overflow(IntEnum):
    """The columns that move to a row of their own when they are large; the value is the low bits of its key."""

    PAYLOAD = 0
    HEADERS = 1
    RESULT = 2


def size_of(data: bytes | str) -> int:
    """Return how many bytes the database needs for ``data``."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())


def place(kind: Overflow, data: bytes | str | None, belongings: int) -> tuple[bytes | str | None, int]:
    """Return what the column holds (None if a row of its own does), and the row's new ``belongings``."""
    bit = 1 << kind
    if data is not None and size_of(data) > INLINE_BYTES:
        return None, belongings | bit
    return data, belongings & ~bit


def checksum(data: bytes | str | None) -> int | None:
    """Return what is stored beside data, so that a disk that changes it makes an error, not another answer."""
    if data is None:
        return None
    return crc32(data if isinstance(data, bytes) else data.encode())


def is_changed(data: bytes | str | None, stored: int | None) -> bool:
    """Whether data is not what was stored; a row of an older version has no checksum, and proves nothing."""
    return stored is not None and checksum(data) != stored


def sound(what: str, data: Any, stored: Any) -> bytes:
    """Return data that is what was stored.

    Raises:
        StorageError: it is not; ``what`` says whose it is.
    """
    if type(data) is not bytes or checksum(data) != stored:
        raise StorageError(f"the {what} is damaged: it is not what was stored (its checksum differs); restore a backup")
    return data
