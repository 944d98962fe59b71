"""Lanes and crews: which queues a dispatcher serves, and the threads that run what it claims."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.queue.cancel_token import CancelToken
from taquba_workflow_sync.queue.records import damage_of
from taquba_workflow_sync.storage.records import ClaimedRow, Dead, LaneClaim, Settlement

_log = logging.getLogger(__name__)

# A pool task takes ready work for this long, then queues itself anew: `submit` refuses once the interpreter is going
# down, and that refusal is the only sign of it that a busy pool gets.
_SHIFT: Final = 0.05


class Execution:
    """One claim on its way through a thread."""

    __slots__ = (
        "cancel_token",
        "crew",
        "has_returned",
        "is_lost",
        "is_repeated",
        "lane",
        "renewed_at",
        "row",
        "stopping",
    )

    def __init__(self, row: ClaimedRow, crew: Crew, stopping: threading.Event) -> None:
        self.row: ClaimedRow = row
        self.crew: Crew = crew
        self.lane: Lane = crew.lanes[row.queue]
        self.stopping: threading.Event = stopping
        self.cancel_token: CancelToken = CancelToken()
        self.renewed_at: float = time.monotonic()
        self.has_returned: bool = False
        self.is_lost: bool = False
        self.is_repeated: bool = False
        if row.cancel_requested:
            self.cancel_token.set()


def _nothing() -> int:
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """One queue of a crew.

    ``execute`` runs on a pool thread and never raises: it returns how to settle. ``settled`` is told on the
    dispatcher's thread, after the commit, what became of that; it may return another settlement to try. ``owed`` tells
    how many jobs a stopping dispatcher still claims from the lane, where stopping must not leave them for later.
    """

    queue: str
    lease_ms: int
    execute: Callable[[Execution], Settlement]
    settled: Callable[[Execution, Settlement, TaqubaError | None], Settlement | None]
    owed: Callable[[], int] = _nothing

    @property
    def claim(self) -> LaneClaim:
        """What to ask the store for."""
        return LaneClaim(self.queue, self.lease_ms)


def _execute(execution: Execution) -> Settlement:
    """Run one claim; whatever goes wrong around the user's code ends as a dead letter, never as a lost thread."""
    row = execution.row
    damage = damage_of(row)
    if damage is not None:
        return Settlement(row.id, row.token, Dead(damage))
    try:
        return execution.lane.execute(execution)
    except BaseException as error:
        _log.exception("job %s could not be run", row.id, extra={"job_id": row.id, "queue": row.queue})
        return Settlement(row.id, row.token, Dead(f"could not be run: {type(error).__name__}"))


class Crew:
    """A pool of threads that serves some lanes, the first of them first."""

    def __init__(self, name: str, lanes: Sequence[Lane], size: int) -> None:
        self.name = name
        self.size = size
        self.lanes: dict[str, Lane] = {lane.queue: lane for lane in lanes}
        self.claims: tuple[LaneClaim, ...] = tuple(lane.claim for lane in lanes)
        self.in_flight = 0
        self.is_hungry = True
        self.next_due_ms: int | None = None
        self.is_going_down: bool = False
        self._ready: deque[Execution] = deque()
        self._lock = threading.Lock()
        self._active = 0
        self._is_calling = False
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=f"taquba-{name}")

    @property
    def free(self) -> int:
        """How many more claims the crew can start at once."""
        return self.size - self.in_flight

    def give(self, executions: Sequence[Execution], finish: Callable[[Execution, Settlement], None]) -> None:
        """Hand claims to the threads; ``finish`` is called by them, with how to settle."""
        with self._lock:
            self._ready.extend(executions)
            self._finish = finish
            self._call_one()

    def _call_one(self) -> None:
        """Start one more task if work is ready and a thread is free; the lock is held.

        Each task calls the next, and only one call is under way at a time: a thread that gets through short work
        before the next one has woken leaves nothing to be woken for.
        """
        if self._ready and not self._is_calling and self._active < self.size:
            self._active += 1
            self._is_calling = True
            try:
                self._pool.submit(self._work)
            except RuntimeError:
                # The interpreter is going down; what is ready goes back unstarted.
                self.is_going_down = True
                self._active -= 1
                self._is_calling = False

    def _work(self) -> None:
        until = time.monotonic() + _SHIFT
        is_new = True
        while True:
            with self._lock:
                if is_new:
                    self._is_calling = is_new = False
                # Emptiness is looked at under the lock that `give` holds, or a claim could be left with no thread.
                if not self._ready or time.monotonic() >= until:
                    self._active -= 1
                    self._call_one()
                    return
                execution = self._ready.popleft()
                self._call_one()
            settlement = _execute(execution)
            # From here on the claim may end by this very settlement, so its end is no loss.
            execution.has_returned = True
            self._finish(execution, settlement)

    def take_back(self) -> list[Execution]:
        """Return what no thread has started, so that it can be released."""
        with self._lock:
            unstarted = list(self._ready)
            self._ready.clear()
        return unstarted

    def dismiss(self) -> None:
        """Let the threads go when they are idle; never waits."""
        self._pool.shutdown(wait=False)
