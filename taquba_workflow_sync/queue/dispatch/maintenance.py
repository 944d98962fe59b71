"""What a dispatcher does beside its work, in small pieces: look for the dead, sweep what is past its retention."""

from __future__ import annotations

import time
from typing import Final

from taquba_workflow_sync.queue.dispatch.orphans import Orphans
from taquba_workflow_sync.queue.dispatch.state import DispatchState
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.port.job import SWEEP_LIMIT

_PROBE_INTERVAL: Final = 0.5
_SWEEP_INTERVAL: Final = 1.0
# Of the time a full piece took, how much more goes to other work: a fifth of a busy worker's time goes to sweeping,
# or rows would pile up under one that ends more runs than one piece a second.
_SWEEP_SHARE: Final = 4.0


class Maintenance:
    """Does what is due of it, also when there is no quiet moment; nothing of it once the dispatcher stops."""

    def __init__(self, handle: QueueHandle, state: DispatchState, poll_interval: float) -> None:
        self._store = handle.store
        self._state = state
        self._poll_interval = poll_interval
        self._orphans = Orphans(handle)
        self._next_probe = 0.0
        self._next_sweep = 0.0

    @property
    def next_due(self) -> float:
        """When something is due again, by the monotonic clock."""
        return min(self._next_probe, self._next_sweep)

    def run(self, *, is_busy: bool) -> bool:
        """Do what is due; whether it looked for the dead, which is when to look again at due times, too."""
        now = time.monotonic()
        if self._state.stop_asked:
            self._next_probe = self._next_sweep = now + _SWEEP_INTERVAL
            return False
        has_probed = now >= self._next_probe
        if has_probed:
            self._next_probe = now + _PROBE_INTERVAL
            self._state.abandoned = self._store.abandoned_claims(own=self._orphans.abandoned())
            self._orphans.release()
        if now >= self._next_sweep:
            swept = self._store.sweep()
            ended = time.monotonic()
            if is_busy:
                pause = _SWEEP_SHARE * (ended - now) if swept >= SWEEP_LIMIT else _SWEEP_INTERVAL
            else:
                pause = 0.0 if swept else self._poll_interval
            self._next_sweep = ended + pause
        return has_probed
