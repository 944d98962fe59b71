"""What can be read of a queue, and which rows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from taquba_workflow_sync.storage.port.status import JobStatus, Verdict


class Readiness(NamedTuple):
    """Whether a queue has work now, and when its next scheduled job is due (None: it has none)."""

    is_ready: bool
    next_due_ms: int | None


class Counts(NamedTuple):
    """A queue's counters: what is there now, and how many were done and cancelled ever."""

    pending: int = 0
    scheduled: int = 0
    claimed: int = 0
    done: int = 0
    dead: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows of a queue a page holds; ``kept_at_ms`` leaves out finished runs past their retention."""

    status: JobStatus | None = None
    verdict: Verdict | None = None
    cancel_requested: bool | None = None
    waiting: bool = False
    active: bool = False
    runs_only: bool = False
    kept_at_ms: int | None = None
