"""A gate that threads pass while they use a connection, and that shuts when the process forks."""

from __future__ import annotations

import threading
import time
from typing import Final

_LOST_WAKE_UP: Final = 0.1


class Gate:
    """Knows which threads use a connection, lets in at most ``limit`` at once, and shuts when the process forks.

    It counts threads, not entries, and is left in a ``finally`` whether it was entered or not: an interrupt (a signal
    handler that raises) may come between any two lines here, and a count that it left too high would hang every later
    fork and close. A call never nests in its own thread.
    """

    def __init__(self, limit: int | None = None) -> None:
        # The lock is taken by itself: Condition.__enter__ is Python, and an interrupt inside it would keep it for ever.
        self._lock = threading.Lock()
        self._condition = threading.Condition(self._lock)
        self._limit = limit
        self._inside: set[int] = set()
        self._closed = 0

    def enter(self) -> None:
        """Wait until the gate is open and has room; the caller leaves in a ``finally`` around this very call."""
        with self._lock:
            while self._closed or (self._limit is not None and len(self._inside) >= self._limit):
                self._condition.wait(_LOST_WAKE_UP)
            self._inside.add(threading.get_ident())

    def leave(self) -> None:
        """Be outside, whatever was before."""
        self._inside.discard(threading.get_ident())
        if self._closed or self._limit is not None:
            with self._lock:
                self._condition.notify_all()

    def shut(self, timeout: float = float("inf")) -> None:
        """Keep new calls out and wait, at most ``timeout`` seconds, until those of other threads have left."""
        me = threading.get_ident()
        until = time.monotonic() + timeout
        with self._lock:
            self._closed += 1
            while self._inside - {me} and time.monotonic() < until:
                self._condition.wait(_LOST_WAKE_UP)

    def open(self) -> None:
        """Let calls in again, once every ``shut`` has been answered."""
        with self._lock:
            self._closed -= 1
            if not self._closed:
                self._condition.notify_all()
