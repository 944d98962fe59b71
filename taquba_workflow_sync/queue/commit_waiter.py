"""Waiting for a commit of any process without a thread of its own: one of the waiters looks, the others sleep."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final

from taquba_workflow_sync.storage.port.store import Store

_LOOK_WHEN_ACTIVE: Final = 0.005


_LOOK_WHEN_IDLE: Final = 0.04


_ACTIVE_FOR: Final = 1.0


class Waiter:
    """Lets threads wait until somebody has committed: at once for this process's commits, soon for others'."""

    def __init__(self, store: Store, is_over: Callable[[], bool]) -> None:
        self._store = store
        self._is_over = is_over
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        # Taken by itself: Condition.__enter__ is Python, and an interrupt inside it would keep the lock for ever.
        self._lock = threading.Lock()
        self._condition = threading.Condition(self._lock)
        self._has_looker = False
        self._latest = -1
        self._kicks = 0

    def now(self) -> int:
        """Return the version to wait from; take it before reading what is waited for."""
        if self._pid != os.getpid():
            self._start()  # a forked child: a thread of the parent may have held the condition
        with self._lock:
            return self._look()

    def _look(self) -> int:
        version = self._store.version()
        if version != self._latest:
            self._latest = version
            self._condition.notify_all()
        return version

    def wake(self) -> None:
        """Have every waiter return now, whatever was committed: the queue is closed, or the clock was moved."""
        if self._pid != os.getpid():
            self._start()
        with self._lock:
            self._kicks += 1
            self._condition.notify_all()

    def _stir(self) -> None:
        with self._lock:
            self._condition.notify_all()

    def wait(self, seen: int, timeout: float, concerns: Callable[[frozenset[str], bool], bool]) -> None:
        """Return once the version differs from ``seen``, or after ``timeout`` seconds, or when the queue is closed.

        ``concerns`` tells which commits of this process are worth waking for at once.
        """

        def heard(woken: frozenset[str], ended_run: bool) -> None:
            if concerns(woken, ended_run):
                self._stir()

        with self._store.listen(heard), self._lock:
            began = time.monotonic()
            kicks = self._kicks
            while not self._is_over() and self._latest == seen and self._kicks == kicks:
                waited = time.monotonic() - began
                if waited >= timeout:
                    return
                left = timeout - waited
                if self._has_looker:
                    self._condition.wait(left)
                    continue
                self._has_looker = True
                try:
                    if self._look() == seen:
                        look = _LOOK_WHEN_ACTIVE if waited < _ACTIVE_FOR else _LOOK_WHEN_IDLE
                        self._condition.wait(min(left, look))
                finally:
                    self._has_looker = False
                    self._condition.notify()
