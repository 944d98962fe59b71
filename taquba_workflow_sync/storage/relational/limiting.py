"""The limit that a key is under, as it is stored: for whoever writes, and for whoever reads."""

from __future__ import annotations

from enum import IntFlag
from typing import Any, Final

from taquba_workflow_sync.storage.port.limit import MOST_CLAIMS, HoldFor, Limit, Rate
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection

#: Stands for the queue's own limit where that of a key would stand.
OWN: Final = ""
_MOST: Final = 2**53


class Pause(IntFlag):
    """Why nothing is claimed from a queue: somebody has paused it, or a move waits for the claims to end."""

    BY_CALL = 1
    BY_MOVE = 2


#: What the column says of a queue from which nothing is claimed, of one that is shown as paused, and of one that is
#: being moved; what is none of these is damaged, and keeps nothing from running.
CLOSED: Final = frozenset({1, 2, 3})
PAUSED: Final = frozenset({1, 3})
MOVING: Final = frozenset({2, 3})


def limit_at(connection: Connection, queue: int, key: str) -> Limit | None:
    """Return the limit that a key is under: an exact one, else that of the longest pattern; or the queue's own."""
    row = connection.execute(sql.FIND_LIMIT, (queue, key)).fetchone()
    if row is None and key != OWN:
        row = connection.execute(sql.FIND_PATTERN, (queue, key)).fetchone()
    return None if row is None else limit_in(row)


def limit_in(row: tuple[Any, ...]) -> Limit:
    """Return a stored limit; what of it is damaged limits nothing."""
    pattern, concurrency, most, window_ms, is_for_run, max_waiting = row
    rate = None
    if _is_number(most, 1, MOST_CLAIMS) and _is_number(window_ms, 1, _MOST):
        rate = Rate(most, window_ms)
    return Limit(
        pattern=text_of(pattern) or None,
        concurrency=concurrency if _is_number(concurrency, 1, _MOST) else None,
        rate=rate,
        hold=HoldFor.RUN if is_for_run else HoldFor.STEP,
        max_waiting=max_waiting if _is_number(max_waiting, 0, _MOST) else None,
    )


def _is_number(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def text_of(value: object) -> str:
    """Return stored text, read as bytes: of what is damaged, something that is no key."""
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def window_at(boot: int, now_ms: int, boot_ms: int, rate: Rate) -> tuple[int, int, int, int, int]:
    """Return the window of a rate that ends now, as statements take it: whose boot's clock counts, and from after when
    to when, by that clock and by the wall clock. What is noted for a time ahead counts for no longer than a window."""
    at = boot_ms if boot else now_ms
    return boot, at - rate.window_ms, at + rate.window_ms, now_ms - rate.window_ms, now_ms + rate.window_ms
