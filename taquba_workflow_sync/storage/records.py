"""The words of the port: what an engine is told to do and what it answers. Times are milliseconds since the epoch."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

#: The most rows that one sweep removes.
SWEEP_LIMIT: Final = 500


class JobStatus(enum.StrEnum):
    """Where a job stands; the transitions between the six are in ``queue.transitions``."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    CLAIMED = "claimed"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        """Whether nothing but a requeue or a retry moves the job on."""
        return self in (JobStatus.DONE, JobStatus.DEAD, JobStatus.CANCELLED)


class Verdict(enum.StrEnum):
    """What a job that ended as done, or a run that ended as dead, came to."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


class AttemptOutcome(enum.StrEnum):
    """How one claim of a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CONTINUED = "continued"
    RETRIED = "retried"
    DEAD = "dead"
    CANCELLED = "cancelled"
    REAPED = "reaped"


class CancelOutcome(enum.StrEnum):
    """What a cancel found: the job gone from its queue, a running claim told to stop, or nothing to cancel."""

    REMOVED = "removed"
    REQUESTED = "requested"
    NOT_FOUND = "not_found"


class IfFinished(enum.StrEnum):
    """What a submit does when its run id names a finished run that is still kept, with the same input."""

    KEEP = "keep"
    RERUN_FAILED = "rerun_failed"
    RERUN = "rerun"


@dataclass(frozen=True, slots=True)
class RunName:
    """What makes a job a run: its name, the fingerprint of its input, and what to do if the name is taken."""

    run_id: str
    input_hash: bytes
    if_finished: IfFinished = IfFinished.KEEP


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to insert; limits and retention are frozen on the row.

    ``headers`` is a JSON object, or empty for none. ``keep_done_ms`` None: a bare job leaves no row when it is done
    or cancelled. ``keep_dead_ms`` None: dead letters stay until they are requeued. A run has ``run`` set and is kept,
    visible, for ``keep_done_ms`` however it ended.
    """

    id: str
    queue: str
    payload: bytes
    headers: str = ""
    priority: int = 1000
    max_attempts: int = 3
    run_at_ms: int | None = None
    dedup_key: str | None = None
    keep_done_ms: int | None = None
    keep_dead_ms: int | None = None
    run: RunName | None = None
    id_is_generated: bool = True


class Inserted(NamedTuple):
    """What became of one new job: its id, or that of the job that was there already."""

    job_id: str
    is_new: bool


class ClaimedRow(NamedTuple):
    """A job just claimed, as its worker needs it.

    ``damage`` says why the stored row cannot be worked on; it must be dead-lettered, so that it blocks no other.
    """

    place: int
    id: str
    token: str
    step: int
    attempts: int
    max_attempts: int
    payload: bytes
    headers: str
    priority: int
    cancel_requested: int
    run_id: str | None
    enqueued_ms: int
    run_at_ms: int | None
    last_error: str | None
    queue: str
    claimed_ms: int
    lease_until_ms: int
    damage: str | None = None


class JobRow(NamedTuple):
    """A stored job, whole."""

    seq: int
    id: str
    queue: str
    status: str
    priority: int
    step: int
    attempts: int
    max_attempts: int
    cancel_requested: int
    owner: str | None
    enqueued_ms: int
    claimed_ms: int | None
    lease_until_ms: int | None
    run_at_ms: int | None
    finished_ms: int | None
    verdict: str | None
    last_error: str | None
    dedup_key: str | None
    run_id: str | None
    keep_done_ms: int | None
    termination: int
    headers: str
    payload: bytes
    result: bytes | None

    def is_kept(self, now_ms: int) -> bool:
        """Whether a run still shows: active, or finished and within its retention."""
        return self.finished_ms is None or now_ms < self.finished_ms + (self.keep_done_ms or 0)


class AttemptRow(NamedTuple):
    """One ended claim in a job's history."""

    ordinal: int
    step: int
    attempt: int
    claimed_ms: int
    ended_ms: int
    outcome: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Done:
    """Ack: the claim ends well, or with the runner's own verdict of failure."""

    verdict: Verdict = Verdict.SUCCEEDED
    result: bytes | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Advance:
    """The same job, one step on. ``headers`` None keeps them; ``delay_ms`` None means at once."""

    payload: bytes
    headers: str | None = None
    delay_ms: int | None = None
    keeps_place: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Nack with attempts left: back in line at its place, after ``delay_ms`` (None: at once)."""

    error: str
    delay_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Dead:
    """Dead-letter the job."""

    error: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """End the claim as cancelled, with the runner's own reason if it gave one."""

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """Put back, uncharged, a claim whose work never started."""


Action = Done | Advance | Retry | Dead | Cancelled | Release


class Settlement(NamedTuple):
    """The end of one claim.

    ``yields_to_cancel``: refuse with ``CancelRequestedError`` if a cancellation was requested meanwhile.
    """

    job_id: str
    token: str
    action: Action
    yields_to_cancel: bool = False


@dataclass(frozen=True, slots=True)
class Deaths:
    """Whose claims may be taken over: owners known to be dead, and single claims watched for long enough.

    ``tokens`` says of each such claim how long its lease was when it was watched: one renewed since then is alive.
    """

    owners: frozenset[str] = frozenset()
    tokens: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.owners or self.tokens)


NO_DEATHS = Deaths()


class LaneClaim(NamedTuple):
    """A queue to claim from, and how long a lease its claims get."""

    queue: str
    lease_ms: int


class ClaimRequest(NamedTuple):
    """Claim up to ``limit`` jobs, from the first lane that has any, then the next.

    ``is_bare``: nobody renews the claims, their lease alone decides.
    """

    lanes: tuple[LaneClaim, ...]
    limit: int
    is_bare: bool = False
    deaths: Deaths = NO_DEATHS


class Running(NamedTuple):
    """One claim of a live owner, as the store has it."""

    job_id: str
    token: str
    owner: str
    cancel_requested: bool
    lease_until_ms: int
    lease_ms: int


@dataclass(frozen=True, slots=True)
class Observer:
    """Who is told of a queue's terminated runs: the lane of notifications, and the limits frozen on each."""

    lane: str
    max_attempts: int
    keep_dead_ms: int | None


class Cancellation(NamedTuple):
    """What a cancel did; ``notification`` is there when it was asked for, claimed by the caller."""

    outcome: CancelOutcome
    token: str | None = None
    notification: ClaimedRow | None = None


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
