"""Claims of this handle that no thread works on: nobody else may free them while their owner lives."""

from __future__ import annotations

import logging
import time
from typing import Final

from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.running import RUNNING
from taquba_workflow_sync.storage.port.settlement import Release, Settlement

_log = logging.getLogger(__name__)

# A dispatcher of the same handle registers its claims a moment after their commit, so a claim counts as an orphan only
# when it has been one for as long.
ORPHAN_AGE_S: Final = 3.0
# A longer gap between two looks does not count: the process was stopped, registrations under way with it.
_LONGEST_GAP_S: Final = 1.0


class Orphans:
    """Watches the handle's own claims.

    A COMMIT that raised may have claimed them all the same: those never began, and go back uncharged. Or a step ended
    and its end could not be stored before everything was stopped: those are taken back as from the dead.
    """

    def __init__(self, handle: QueueHandle) -> None:
        self._handle = handle
        self._store = handle.store
        self._suspects: dict[str, float] = {}
        self._looked_at = 0.0

    def abandoned(self) -> set[str]:
        """Return this handle's tokens whose steps have ended and whose ends could not be stored."""
        return set(self._handle.abandoned_here)

    def release(self, *, age: float = ORPHAN_AGE_S) -> None:
        """Put back what was claimed by a commit that failed, once it has been without a thread for ``age`` seconds."""
        abandoned = self.abandoned()
        held = {claim.token: claim for claim in self._store.running()}
        # What is stored no longer needs not be remembered.
        self._handle.abandoned_here.difference_update(abandoned - held.keys())
        orphans = {token: claim for token, claim in held.items() if token not in RUNNING and token not in abandoned}
        now = time.monotonic()
        gap, self._looked_at = min(now - self._looked_at, _LONGEST_GAP_S), now
        known = self._suspects
        self._suspects = {token: known[token] + gap if token in known else 0.0 for token in orphans}
        old = [orphans[token] for token, seen_for in self._suspects.items() if seen_for >= age]
        if old:
            _log.warning("releasing %d claims that no thread runs, left by a commit that failed", len(old))
            releases = [Settlement(claim.job_id, claim.token, Release()) for claim in old]
            self._store.settle_and_claim(releases, ())
