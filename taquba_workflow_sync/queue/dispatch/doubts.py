"""What a process does that cannot reach its store's server: its claims may soon be others', so it lets go in time.

Half of the grace that others give a vanished process before they take its claims: by then it starts nothing any more
and has told its steps. Nobody has asked them to stop, as far as is known; so a step that ends for it is not cancelled
and has not failed, unless the stored row says otherwise, but is tried again, uncharged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from taquba_workflow_sync.errors import StoreClosedError
from taquba_workflow_sync.queue.dispatch.lane import Execution
from taquba_workflow_sync.storage.port.settlement import DeadLetter, Nack, PutBack, SettleCancelled, Settlement
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.wakeup import WakeUp

_log = logging.getLogger(__name__)

BEAT_EVERY: Final = 0.5
BEAT_PATIENCE: Final = 0.5
#: How long nothing may be heard of the server: half of what others wait for.
SILENCE: Final = 1.0
# What one gap between two beats may count for: a process that was stopped has heard nothing, and is not cut off.
_MOST_OF_ONE_GAP: Final = 0.75
_SLEEP_AFTER: Final = 1.0
#: How long a step that ended in doubt stays away: its process has just come back, or another takes it up.
_PUT_BACK_AFTER_MS: Final = 100


class Doubts:
    """Beats while anything runs, on a thread of its own: one that waits for the store's answer could not tell."""

    def __init__(
        self,
        store: Store,
        running: Callable[[], list[Execution]],
        name: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._running = running
        self._name = name
        self._monotonic = monotonic
        self._wakeup = WakeUp()
        self._is_asleep = False
        self._is_over = False
        self._thread: threading.Thread | None = None
        self._looked = 0.0
        self._silent = 0.0

    def wake(self) -> None:
        """Say that something runs now: the first time, where there is a server to be cut off from, a thread begins."""
        if self._thread is None:
            if self._is_over or self._store.beat(0.0) is None:
                self._is_over = True
                return
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            thread.start()
            self._thread = thread
        elif self._is_asleep:
            self._wakeup.notify()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._is_over = True
        self._wakeup.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        idle_since = time.monotonic()
        self.begin()
        while not self._is_over:
            if self._running():
                idle_since = time.monotonic()
                try:
                    has_answered = self.look()
                except StoreClosedError:
                    return
                except Exception:
                    _log.exception("a beat failed, which it should not")
                    has_answered = True
                if has_answered:
                    self._wakeup.wait(BEAT_EVERY)
                else:
                    self._wakeup.wait(_pause(time.monotonic() - self._looked))
            elif time.monotonic() - idle_since > _SLEEP_AFTER:
                self._is_asleep = True
                if not self._running():  # looked at again after the flag went up, or a wake could be missed
                    self._wakeup.wait(None)
                self._is_asleep = False
                idle_since = time.monotonic()
                self.begin()
            else:
                self._wakeup.wait(BEAT_EVERY)

    def begin(self) -> None:
        """Take it that the server has been heard of just now: what is claimed was claimed there."""
        self._silent = 0.0
        self._looked = self._monotonic()

    def look(self) -> bool:
        """Beat once; whether the server has answered. After a silence that is too long, all that runs is in doubt."""
        has_answered = bool(self._store.beat(BEAT_PATIENCE))
        now = self._monotonic()
        was_silent = self._silent >= SILENCE
        self._silent = 0.0 if has_answered else self._silent + min(now - self._looked, _MOST_OF_ONE_GAP)
        self._looked = now
        if self._silent >= SILENCE:
            running = self._running()
            if not was_silent:
                _log.warning("the store's server has not answered for a second: %d steps are in doubt", len(running))
            for execution in running:
                _doubt(execution)
        elif was_silent:
            _log.warning("the store's server answers again")
        return has_answered


def _pause(took: float) -> float:
    """Return how long to wait after a beat without an answer; one that waited for it needs no pause."""
    return max(0.05, 0.1 - took)


def _doubt(execution: Execution) -> None:
    if not execution.has_returned and not execution.is_lost:
        execution.is_in_doubt = True
        execution.cancel_token.stop("in doubt")


def settled_in_doubt(execution: Execution, settlement: Settlement) -> Settlement:
    """Return how to settle what ended after its token was set for doubt alone: an outcome counts as it is.

    Its ``Cancel``, or an exception, may be of no other cause than that token. Whether a cancellation was requested all
    the same, the stored row tells, when the settlement meets it.
    """
    row, action = execution.row, settlement.action
    match action:
        case SettleCancelled():
            pass
        case Nack() | DeadLetter() if settlement.trace is not None:
            pass
        case _:
            return settlement
    why = "the server could not be reached while it ran"
    yields = row.run_id is not None
    return Settlement(row.id, row.token, PutBack(_PUT_BACK_AFTER_MS, why, is_retry=True), yields)
