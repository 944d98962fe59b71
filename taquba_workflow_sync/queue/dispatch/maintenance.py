"""What a dispatcher does beside its work, in small pieces: look for the dead, sweep what is old, fire what is due."""

from __future__ import annotations

import logging
import time
from typing import Final

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.queue.dispatch.firing import Firing
from taquba_workflow_sync.queue.dispatch.orphans import Orphans
from taquba_workflow_sync.queue.dispatch.state import DispatchState
from taquba_workflow_sync.queue.dispatch.tally import Tally
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.port.job import SWEEP_LIMIT

_log = logging.getLogger(__name__)

_PROBE_INTERVAL: Final = 0.5
_SWEEP_INTERVAL: Final = 1.0
# Of the time a full piece took, how much more goes to other work: a fifth of a busy worker's time goes to sweeping,
# or rows would pile up under one that ends more runs than one piece a second.
_SWEEP_SHARE: Final = 4.0


class Maintenance:
    """Does what is due of it, also when there is no quiet moment; nothing of it once the dispatcher stops."""

    def __init__(
        self, handle: QueueHandle, state: DispatchState, poll_interval: float, firing: Firing, tally: Tally
    ) -> None:
        self._store = handle.store
        self._state = state
        self._poll_interval = poll_interval
        self._orphans = Orphans(handle)
        self._firing = firing
        self._tally = tally
        self._next_probe = 0.0
        self._next_sweep = 0.0
        #: Whether it serves until it is told to stop: what runs until idle, perhaps each minute, its claims tell of.
        self.is_lasting: bool = True

    @property
    def next_due(self) -> float:
        """When something is due again, by the monotonic clock."""
        return min(self._next_probe, self._next_sweep, self._firing.next_due, self._tally.next_due)

    def run(self, *, is_busy: bool) -> bool:
        """Do what is due; whether it looked for the dead, which is when to look again at due times, too."""
        now = time.monotonic()
        if self._state.stop_asked:
            self._firing.stop()
            self._next_probe = self._next_sweep = now + _SWEEP_INTERVAL
            return False
        if now >= self._tally.next_due:
            self.store_tally()
        has_probed = now >= self._next_probe
        if has_probed:
            self._next_probe = now + _PROBE_INTERVAL
            self._enrol()
            self._state.abandoned = self._store.abandoned_claims(own=self._orphans.abandoned())
            self._orphans.release()
            # A claim ends what is late, but none is made while every thread is at work.
            self._state.has_late = any(
                self._store.has_late(queue) for pool in self._state.pools for queue in pool.lanes
            )
            self._firing.look_again()
        self._firing.keep_up()
        if now >= self._next_sweep:
            swept = self._store.sweep()
            ended = time.monotonic()
            if is_busy:
                pause = _SWEEP_SHARE * (ended - now) if swept >= SWEEP_LIMIT else _SWEEP_INTERVAL
            else:
                pause = 0.0 if swept else self._poll_interval
            self._next_sweep = ended + pause
        return has_probed

    def _enrol(self) -> None:
        """Have who looks at the workers know of this one; under another name too, where it was taken for dead."""
        if not self.is_lasting:
            return
        try:
            self._store.enrol()
        except StorageError as error:
            _log.info("this process is not known as a worker until it claims, or the store takes that: %s", error)

    def store_tally(self) -> None:
        """Store what was counted and went into no other commit; a store that refuses it has it lost."""
        with self._state.turn:  # who counts meanwhile would count for nobody
            added = self._tally.take()
        if self._state.finished:
            self._state.wakeup.notify()  # whose thread has found the turn taken, and left it to who had it
        if not added:
            return
        try:
            self._store.add_to_meters(added)
        except StorageError as error:
            _log.info("what was counted for the metrics could not be stored: %s", error)
