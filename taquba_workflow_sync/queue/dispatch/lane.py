"""Lanes: which queues are served and how, and one claim on its way through a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.queue.cancel_token import CancelToken
from taquba_workflow_sync.storage.port.claim import ClaimedRow, LaneClaim, TakenBack
from taquba_workflow_sync.storage.port.progress import ProgressReport
from taquba_workflow_sync.storage.port.settlement import Settlement

# Leases are renewed when a third of them has passed: two more tries before another process may begin to watch them.
_RENEW_AFTER: Final = 1 / 3


class Execution:
    """One claim on its way through a thread; ``before``: the step of the run that has held it until now."""

    __slots__ = (
        "afterwards",
        "answer",
        "cancel_token",
        "error",
        "following",
        "has_returned",
        "headers",
        "held_since",
        "is_in_doubt",
        "is_lost",
        "is_repeated",
        "is_settled",
        "lane",
        "minutes_overdue",
        "progress",
        "renewed_at",
        "reported",
        "row",
        "stopping",
        "took",
    )

    def __init__(self, row: ClaimedRow, lane: Lane, stopping: threading.Event, before: Execution | None = None) -> None:
        self.row: ClaimedRow = row
        self.lane: Lane = lane
        self.stopping: threading.Event = stopping
        self.cancel_token: CancelToken = CancelToken()
        #: Since when the run has held its claim, from step to step; and when that was renewed last. Both monotonic.
        self.held_since: float
        self.renewed_at: float
        #: The row's, once they were found to be sound: a run that goes on keeps them.
        self.headers: Mapping[str, str] | None
        if before is None:
            self.held_since = self.renewed_at = time.monotonic()
            self.headers = None
        else:
            self.held_since, self.renewed_at, self.headers = before.held_since, before.renewed_at, before.headers
        #: The next step of the run, while leave is asked to go on with it under the same claim.
        self.following: Execution | None = None
        #: What the step said last of how far it is, and what of that is stored.
        self.progress: ProgressReport | None = None
        self.reported: ProgressReport | None = None
        self.has_returned: bool = False
        #: For how many seconds a thread was busy with it.
        self.took: float = 0.0
        #: What its code raised; and what to call once its end is stored, where no lock is held.
        self.error: BaseException | None = None
        self.afterwards: Callable[[], None] | None = None
        #: Whether its own thread has settled it, and what became of that.
        self.is_settled: bool = False
        self.answer: TaqubaError | None = None
        self.is_lost: bool = False
        #: Whether its token was set because the server could not be reached, and the claim may soon be another's.
        self.is_in_doubt: bool = False
        self.is_repeated: bool = False
        #: For how many minutes the step is known to have run past its time.
        self.minutes_overdue: int = -1
        if row.cancel_requested:
            self.cancel_token.stop("cancelled")

    def is_due_for_renewal(self, now: float) -> bool:
        """Whether so much of the claim's lease is over that it is to be renewed; ``now`` is monotonic."""
        return now - self.renewed_at >= self.lane.lease_ms / 1000 * _RENEW_AFTER


def _nothing() -> int:
    return 0


def _no_line(taken_back: TakenBack) -> None:
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """One queue of a pool.

    ``execute`` runs on a pool thread and never raises: it returns how to settle. ``settled`` is told on the
    dispatcher's thread, after the commit, what became of that; it may return another settlement to try. ``reserved``
    tells how many jobs a stopping dispatcher still claims from the lane, where stopping must not leave them for later.
    ``holds``: whether a claim may be kept for the job's next step. ``taken_back`` is told
    of each job that a claim has taken back or ended, after the commit, and returns what to say of it, if anything.
    """

    queue: str
    lease_ms: int
    execute: Callable[[Execution], Settlement]
    settled: Callable[[Execution, Settlement, TaqubaError | None], Settlement | None]
    reserved: Callable[[], int] = _nothing
    holds: bool = False
    taken_back: Callable[[TakenBack], Callable[[], None] | None] = _no_line

    @property
    def claim(self) -> LaneClaim:
        """What to ask the store for."""
        return LaneClaim(self.queue, self.lease_ms)
