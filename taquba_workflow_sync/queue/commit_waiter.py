"""Waiting for a commit of any process without a thread of its own: one of the waiters looks, the others sleep.

Every waiter sleeps on a bare lock of its own. A Condition would not do: what a signal handler raises inside its wait
leaves its lock released twice, or held for ever.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from taquba_workflow_sync.storage.port.changes import ChangeSource
from taquba_workflow_sync.wakeup import WakeUp

# How long a sleeper trusts that another one looks: the looker may have been interrupted.
_TRUST: Final = 0.5


class CommitWaiter:
    """Lets threads wait until somebody has committed: at once for this process's commits, soon for others'."""

    def __init__(self, store: ChangeSource, is_over: Callable[[], bool]) -> None:
        self._store = store
        self._is_over = is_over
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._waiting: dict[WakeUp, None] = {}
        self._looker: WakeUp | None = None
        self._latest: object = None
        self._interruptions = 0

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            self._start()  # a forked child: the parent's waiters are not here

    @property
    def has_waiters(self) -> bool:
        """Whether any thread waits."""
        return bool(self._waiting)

    def now(self) -> object:
        """Return the version to wait from; take it before reading what is waited for."""
        self._check_process()
        version = self._store.wait_for_changes(None, 0.0, WakeUp()).version
        if version != self._latest:
            self._latest = version
            self._notify_all()
        return version

    def wake(self) -> None:
        """Have every waiter return now, whatever was committed: the queue is closed."""
        self._check_process()
        self._interruptions += 1
        self._notify_all()

    def _notify_all(self) -> None:
        for wakeup in tuple(self._waiting):
            wakeup.notify()

    def wait(self, seen: object, timeout: float, concerns: Callable[[frozenset[str], bool], bool]) -> None:
        """Return once the version differs from ``seen``, or after ``timeout`` seconds, or when the queue is closed.

        ``concerns`` tells which commits of this process are worth waking for at once.
        """
        wakeup = WakeUp()
        heard = False

        def hear(woken: frozenset[str], ended_run: bool) -> None:
            nonlocal heard
            if concerns(woken, ended_run):
                heard = True
                wakeup.notify()

        interruptions, until = self._interruptions, time.monotonic() + timeout
        try:
            self._waiting[wakeup] = None
            with self._store.on_commit(hear):
                while not (heard or self._is_over() or self._interruptions != interruptions or self._latest != seen):
                    left = until - time.monotonic()
                    if left <= 0:
                        return
                    self._look_or_sleep(wakeup, seen, left)
        finally:
            self._waiting.pop(wakeup, None)
            if self._looker is wakeup:
                self._looker = None
                for other in tuple(self._waiting)[:1]:
                    other.notify()  # it looks from now on

    def _look_or_sleep(self, wakeup: WakeUp, seen: object, left: float) -> None:
        looker = self._looker
        if looker is not None and looker is not wakeup and looker in self._waiting:
            wakeup.wait(min(left, _TRUST))
            return
        # Two that take it at once both look, which costs one look too many.
        self._looker = wakeup
        changes = self._store.wait_for_changes(seen, min(left, _TRUST), wakeup)
        if changes.are_new and changes.version != self._latest:
            self._latest = changes.version
            self._notify_all()
