"""When a dispatcher lets the floor above fire what is due by the clock alone: a call, and no loop of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from taquba_workflow_sync.errors import StorageError, StoreClosedError

_log = logging.getLogger(__name__)

#: Fires what is due; returns in how many seconds something will be, None: nothing as things stand.
Fire = Callable[[], float | None]

_FOR_EVER: Final = float("inf")
# A store that refuses the firing may still take what else there is to do, so that must not wait for it.
_AFTER_FAILURE: Final = 5.0


class Firing:
    """Calls ``fire`` when it is time to, on the dispatcher's thread; without one there is never anything to call."""

    def __init__(self, fire: Fire | None) -> None:
        self._fire = fire
        #: When to call, by the monotonic clock.
        self.next_due: float = _FOR_EVER if fire is None else 0.0
        self._not_before = 0.0

    def look_again(self) -> bool:
        """Have it called soon, since others have committed, or the wall clock may have moved; whether it will be."""
        if self._fire is None:
            return False
        self.next_due = max(min(self.next_due, time.monotonic()), self._not_before)
        return True

    def keep_up(self) -> None:
        """Call it if it is time to; a store that refuses is tried again later."""
        try:
            self.run()
        except StorageError as error:
            _log.error("what is due could not be fired, it is tried again in %.0f s: %s", _AFTER_FAILURE, error)

    def run(self) -> None:
        """Call it if it is time to; once the queue is closed, never again.

        Raises:
            StorageError: the store refuses.
        """
        if self._fire is None or time.monotonic() < self.next_due:
            return
        self.next_due = self._not_before = time.monotonic() + _AFTER_FAILURE
        try:
            wait = self._fire()
        except StoreClosedError:
            self.stop()  # the queue was closed over a step that still runs: only that and its end are left to do
            return
        self._not_before = 0.0
        self.next_due = _FOR_EVER if wait is None else time.monotonic() + wait

    def stop(self) -> None:
        """Never call it again."""
        self._fire, self.next_due = None, _FOR_EVER
