"""How one handle hears of commits, and lets nobody lead twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from taquba_workflow_sync.clock import Clock, on_advance
from taquba_workflow_sync.storage.port.changes import Changes, CommitListener, Leader
from taquba_workflow_sync.wakeup import WakeUp
from tests.storage.memory.places import Place


class _NothingWaits:
    """A leader where every call commits at once."""

    def flush(self) -> None:
        """Commit nothing."""

    def here(self) -> AbstractContextManager[None]:
        """Every call commits where it is made."""
        return nullcontext()


class ChangeRoom:
    """The listeners, waiters and the leader of one handle."""

    def __init__(self, place: Place, clock: Clock) -> None:
        self._place = place
        # Changed by single operations of dictionaries and no lock: any thread may be interrupted in the middle.
        self._listeners: dict[object, CommitListener] = {}
        self._waiting: dict[object, WakeUp] = {}
        self._leading = threading.Lock()
        self._clock_moves = 0
        self._forget_clock: Callable[[], None] = on_advance(clock, self._clock_moved)

    def close(self) -> None:
        """Hear nothing any more."""
        self._forget_clock()
        self.notify()

    def notify(self) -> None:
        """Wake who waits: somebody has committed."""
        for wakeup in tuple(self._waiting.values()):
            wakeup.notify()

    def _clock_moved(self) -> None:
        self._clock_moves += 1
        self.notify()

    def tell(self, woken: frozenset[str], ended: frozenset[str]) -> None:
        """Call the listeners, outside of every lock."""
        for listener in tuple(self._listeners.values()):
            listener(woken, ended)

    def _version(self) -> tuple[int, int]:
        return self._place.commits, self._clock_moves

    def wait(self, since: object, timeout: float, wakeup: WakeUp) -> Changes:
        """Return once the version is another than ``since``, or ``wakeup`` rang, or the time is over."""
        key = object()
        self._waiting[key] = wakeup
        try:
            if since is not None and self._version() == since:
                wakeup.wait(timeout)
        finally:
            self._waiting.pop(key, None)
        version = self._version()
        return Changes(version, version != since)

    @contextmanager
    def on_commit(self, listener: CommitListener) -> Iterator[None]:
        """Call ``listener`` after commits, during the block."""
        key = object()
        self._listeners[key] = listener
        try:
            yield
        finally:
            self._listeners.pop(key, None)

    @contextmanager
    def lead(self) -> Iterator[Leader | None]:
        """Give the one lead, which nobody needs here, to the first that asks."""
        leads = self._leading.acquire(blocking=False)
        try:
            yield _NothingWaits() if leads else None
        finally:
            if leads:
                self._leading.release()
