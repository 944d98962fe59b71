"""A wake-up that one thread waits for and any may send; sent before the wait, it is not missed."""

from __future__ import annotations

import threading


class WakeUp:
    """A binary semaphore on a bare lock: one wait per notify, and no lock of its own that a signal could find held."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def notify(self) -> None:
        """Wake the waiter, or let its next wait return at once."""
        if not self._lock.locked():
            return
        try:
            self._lock.release()
        except RuntimeError:
            pass  # another thread did so at the same moment

    def wait(self, timeout: float | None) -> bool:
        """Wait for a notify, at most ``timeout`` seconds (None: as long as it takes); whether it came."""
        if timeout is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))
