"""What a dispatcher does when it has nothing to do: look for work, and sleep until there may be some."""

from __future__ import annotations

import time
from collections.abc import Sequence

from taquba_workflow_sync.queue.dispatch.firing import Firing
from taquba_workflow_sync.queue.dispatch.pool import Pool
from taquba_workflow_sync.queue.dispatch.state import DispatchState, note_backlog
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.running import RUNNING
from taquba_workflow_sync.storage.port.reads import DueIn, Ready
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.wakeup import WakeUp


class Idle:
    """Sleeps for one dispatcher, on its thread."""

    def __init__(self, handle: QueueHandle, state: DispatchState, firing: Firing) -> None:
        self._store = handle.store
        self._state = state
        self._firing = firing
        #: As of when the lanes were last looked at; None: look again.
        self._seen: object = None

    def look_again(self) -> None:
        """Have the lanes read anew: the wall clock, or a suspended machine, may have moved the next due time."""
        if any(pool.next_due is not None for pool in self._state.pools):
            self._seen = None

    def wait(self, until: float) -> None:
        """Sleep until something may have happened: a wake-up, a due time, another process's commit, ``until``."""
        state = self._state
        if state.has_late and not state.stop_asked:
            return
        free = [] if state.stop_asked else [pool for pool in state.pools if pool.free > 0]
        if free:
            if state.abandoned or any(pool.has_backlog for pool in free) or self._poll(free):
                return
            due = min((pool.next_due for pool in free if pool.next_due is not None), default=None)
            if due is not None:
                if due <= time.monotonic():
                    self._seen = None
                    note_backlog(free)
                    return
                until = min(until, due)
        left = until - time.monotonic()
        if free:
            self._store.wait_for_changes(self._seen, left, state.wakeup)
        elif left > 0:
            state.sees_nothing = True
            if state.stop_asked or not any(pool.free > 0 for pool in state.pools):
                state.wakeup.wait(left)  # looked at again after the flag went up, or a thread that is free is missed
            state.sees_nothing = False

    def _poll(self, pools: Sequence[Pool]) -> bool:
        """Look whether anybody has committed, and if so, whether that is work for these pools, or may be to fire."""
        changes = self._store.wait_for_changes(self._seen, 0.0, WakeUp())
        if self._seen is not None and not changes.are_new:
            return False
        for pool in pools:
            due: float | None = None
            for queue in pool.lanes:
                match self._store.next_work(queue):
                    case Ready():
                        pool.has_backlog = True
                    case DueIn(ms=ms):
                        at = time.monotonic() + ms / 1000
                        due = at if due is None else min(due, at)
                    case None:
                        pass
            pool.next_due = due
        self._seen = changes.version
        # What was committed may be to fire sooner than this was to sleep.
        return self._firing.look_again() or any(pool.has_backlog for pool in pools)

    def is_drained(self, wait_ms: int) -> bool:
        """Whether no retry waits for its backoff, no claim to be put back, and nothing is due within ``wait_ms``."""
        for pool in self._state.pools:
            for queue in pool.lanes:
                if self._store.next_work(queue, retries_only=True) is not None:
                    return False
                match self._store.next_work(queue):
                    case Ready():
                        pool.has_backlog = True
                        return False
                    case DueIn(ms=ms) if ms <= wait_ms:
                        return False
                    case _:
                        pass
        return not self._has_orphans() and not self._are_claimed(self._store.suspected_claims())

    def _has_orphans(self) -> bool:
        """Whether this handle holds claims of these lanes that no thread runs: ``Orphans`` has them put back soon."""
        orphans = [claim.job_id for claim in self._store.running() if claim.token not in RUNNING]
        return self._are_claimed(orphans)

    def _are_claimed(self, jobs: Sequence[str]) -> bool:
        """Whether any of some jobs is one of these lanes that somebody holds."""
        lanes = {queue for pool in self._state.pools for queue in pool.lanes}
        rows = [self._store.get(job_id, with_payload=False) for job_id in jobs]
        return any(row is not None and row.status is JobStatus.CLAIMED and row.queue in lanes for row in rows)
