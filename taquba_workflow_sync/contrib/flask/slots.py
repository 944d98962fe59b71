"""How many streams a process holds open at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from math import ceil
from typing import Final

#: How much longer than a stream a slot is held whose response was lost before it was closed.
_GRACE: Final = 5.0


class Slots:
    """So many at a time; one that nobody gives back is free again once no stream can have it any more."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds + _GRACE
        self._lock = threading.Lock()
        self._until: dict[object, float] = {}

    def take(self) -> Callable[[], None] | None:
        """Take a slot and return what gives it back; None if all are taken."""
        ticket = object()
        with self._lock:
            now = time.monotonic()
            for each in [each for each, until in self._until.items() if until <= now]:
                del self._until[each]
            if len(self._until) >= self._most:
                return None
            self._until[ticket] = now + self._seconds
        return lambda: self._give_back(ticket)

    def _give_back(self, ticket: object) -> None:
        with self._lock:
            self._until.pop(ticket, None)

    def seconds_to_next(self) -> int:
        """Return after how many whole seconds one is free, at the latest."""
        with self._lock:
            first = min(self._until.values(), default=0.0)
        return max(1, ceil(first - _GRACE - time.monotonic()))
