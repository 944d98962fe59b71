"""Arguments checked before anything is written: wrong types are TypeError, senseless values say what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from taquba_workflow_sync.clock import FIRST_MS, LAST_MS, to_ms
from taquba_workflow_sync.errors import InvalidNameError, PayloadTooLargeError

HEADER_BYTES: Final = 64 * 1024
MAX_INT: Final = 2**31 - 1
#: What a float still counts one by one.
MAX_COUNT: Final = 2**53
# About 292 million years in milliseconds still fit SQLite's integers when added to a time; a century is plenty, and
# keeps every stored time a valid datetime.
LONGEST_MS: Final = 100 * 366 * 24 * 3600 * 1000
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_GROUP_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,120}\Z")
_QUEUE_BYTES: Final = 255
_DEDUP_BYTES: Final = 1024
KEY_BYTES: Final = 512
#: The most bytes of a value of the key-value store.
VALUE_BYTES: Final = 2**20
LIMIT_KEY_BYTES: Final = 255
_SHOWN: Final = 80


def shown(value: object) -> str:
    """Return a value as a message can carry it: short, and whatever its ``repr`` does."""
    try:
        text = repr(value)
    except Exception:  # an int of too many digits, a list too deep, a repr that fails
        return f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def queue_name(value: object, *, limit: int = _QUEUE_BYTES) -> str:
    """Return a checked queue name."""
    if not isinstance(value, str):
        raise TypeError(f"queue_name must be a str, not {type(value).__name__}")
    size = len(encoded(value, "queue name"))
    if not 1 <= size <= limit:
        raise InvalidNameError(f"queue name {value[:40]!r} has {size} bytes; it must have 1 to {limit}")
    if any(character < " " or character == "\x7f" for character in value):
        raise InvalidNameError(f"queue name {value!r} has control characters; use printable ones")
    return value


def encoded(value: str, what: str) -> bytes:
    """Return text as UTF-8.

    Raises:
        InvalidNameError: it has lone surrogates.
    """
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise InvalidNameError(f"{what} {value!r} has lone surrogates, which UTF-8 cannot hold") from None


def identifier(value: object, name: str, error: type[InvalidNameError] = InvalidNameError) -> str:
    """Return a checked job or run id."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not _ID.match(value):
        shown = value if len(value) <= 140 else f"{value[:140]}..."
        raise error(f"{name} {shown!r} must be 1 to 128 characters of A-Z, a-z, 0-9, '_' and '-'")
    return value


def group_id(value: object, name: str = "group_id") -> str:
    """Return a checked group id."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not _GROUP_ID.match(value):
        text = value if len(value) <= 140 else f"{value[:140]}..."
        raise InvalidNameError(f"{name} {text!r} must be 1 to 120 characters of A-Z, a-z, 0-9, '_' and '-'")
    return value


def payload(value: object, limit: int, name: str = "payload") -> bytes:
    """Return checked payload bytes."""
    if not isinstance(value, bytes):
        raise TypeError(f"{name} must be bytes, not {type(value).__name__}; encode it first")
    if len(value) > limit:
        raise PayloadTooLargeError(
            f"{name} has {len(value)} bytes, the limit is {limit} (max_payload_bytes of Queue.open);"
            " store large data elsewhere and pass a reference"
        )
    return value


def headers(value: object) -> dict[str, str]:
    """Return checked headers as they were when they were checked, whatever the mapping says later; none for None."""
    return {} if value is None else checked_headers(value)


def checked_headers(value: object) -> dict[str, str]:
    """Return headers as they were when they were checked, whatever the mapping says at another look."""
    if not isinstance(value, Mapping):
        raise TypeError(f"headers must be a mapping of str to str, not {type(value).__name__}")
    size = 0
    checked: dict[str, str] = {}
    for key, content in value.items():
        if not isinstance(key, str) or not isinstance(content, str):
            raise TypeError(
                f"headers must map str to str, not {type(key).__name__} to {type(content).__name__} (at {key!r:.60})"
            )
        if not key:
            raise ValueError("a header has an empty name; give it one")
        size += len(encoded(key, "header name")) + len(encoded(content, f"header {key!r:.60}"))
        if size > HEADER_BYTES:
            raise PayloadTooLargeError(f"the headers have more than {HEADER_BYTES} bytes together; use the payload")
        checked[key] = content
    return checked


def integer(value: object, name: str, *, least: int, most: int = MAX_INT) -> int:
    """Return a checked integer."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} is {shown(value)}; it must be between {least} and {most}")
    return value


def duration_ms(value: object, name: str, *, least: int = 0) -> int:
    """Return a duration given in seconds or as a timedelta, in milliseconds, rounded up."""
    if isinstance(value, timedelta):
        ms = -(value // timedelta(milliseconds=-1))  # rounded up; -value would not be there for timedelta.max
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value}; it must be a finite number of seconds")
        # To the microsecond first: 0.1 s is 100 ms, although 0.1 * 1000 is a little more.
        ms = LONGEST_MS if value >= LONGEST_MS / 1000 else -1 if value < 0 else math.ceil(round(value * 1000, 3))
    else:
        raise TypeError(f"{name} must be seconds (int or float) or a timedelta, not {type(value).__name__}")
    if ms < least:
        raise ValueError(f"{name} is {shown(value)}; it must be {'positive' if least else '0 or more'}")
    return min(ms, LONGEST_MS)


def seconds(value: object, name: str, *, least: int = 0) -> float:
    """Return a checked duration in seconds."""
    return duration_ms(value, name, least=least) / 1000


def optional_seconds(value: object, name: str) -> float | None:
    """Return a checked duration in seconds, or None for None."""
    return None if value is None else seconds(value, name)


def moment_ms(value: object, name: str) -> int | None:
    """Return an aware datetime in milliseconds since the epoch, or None for None."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be an aware datetime, not {type(value).__name__}")
    ms = to_ms(value)
    if not FIRST_MS <= ms <= LAST_MS:
        raise ValueError(f"{name} is {value!r}, which in UTC is outside of the years 1 to 9999")
    return ms


def priority(value: object) -> int:
    """Return a checked priority."""
    return integer(value, "priority", least=-MAX_INT)


def dedup_key(value: object) -> str:
    """Return a checked dedup key."""
    if not isinstance(value, str):
        raise TypeError(f"dedup_key must be a str, not {type(value).__name__}")
    if not 1 <= len(encoded(value, "dedup_key")) <= _DEDUP_BYTES:
        raise ValueError(f"dedup_key {value[:40]!r} must have 1 to {_DEDUP_BYTES} bytes")
    if "\0" in value:
        raise ValueError(f"dedup_key {value[:40]!r} contains U+0000, which not every store can hold; leave it out")
    return value


def key(value: object, name: str = "key") -> str:
    """Return a checked key of a memo or of the key-value store, or the name of a signal."""
    return text(value, name, most=KEY_BYTES)


def limit_key(value: object, name: str = "limit_key", *, least: int = 1) -> str:
    """Return a checked limit key."""
    checked = text(value, name, most=LIMIT_KEY_BYTES, least=least)
    if "*" in checked:
        raise ValueError(f"{name} {checked[:40]!r} contains '*', which stands for the rest of a key in set_limit alone")
    return checked


def value(value: object, limit: int, name: str = "value") -> bytes:
    """Return a checked value of a memo or of the key-value store, or the payload of a signal."""
    if not isinstance(value, bytes):
        raise TypeError(f"{name} must be bytes, not {type(value).__name__}; encode it first")
    if len(value) > limit:
        raise PayloadTooLargeError(
            f"{name} has {len(value)} bytes, the limit is {limit}; store large data elsewhere and note a reference"
        )
    return value


def prefix(value: object) -> str:
    """Return a checked prefix of keys; empty for all of them."""
    return value if value == "" and isinstance(value, str) else key(value, "prefix")


def expected(value: object) -> bytes:
    """Return a checked value that a key is expected to hold; one that is too large is held by none."""
    if not isinstance(value, bytes):
        raise TypeError(f"expected must be bytes, not {type(value).__name__}; pass what get returned")
    return value


def ttl_ms(value: object) -> int | None:
    """Return a checked time to live in milliseconds; None: for ever."""
    return None if value is None else duration_ms(value, "ttl", least=1)


def text(value: object, name: str, *, most: int, least: int = 1) -> str:
    """Return checked text of so many bytes of UTF-8."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{name} {shown(value)} has lone surrogates, which UTF-8 cannot hold") from None
    if not least <= size <= most:
        raise ValueError(f"{name} {value[:40]!r} has {size} bytes; it must have {least} to {most}")
    if "\0" in value:
        raise ValueError(f"{name} {value[:40]!r} contains U+0000, which not every store can hold; leave it out")
    return value


def error_text(value: object) -> str:
    """Return a checked error text."""
    if not isinstance(value, str):
        raise TypeError(f"error must be a str, not {type(value).__name__}; pass str(exception)")
    return value


def instance(value: object, kind: type, name: str) -> None:
    """Refuse a value of another type."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")
