"""What callers see of jobs: frozen values, built from stored rows."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime

from taquba_workflow_sync.clock import from_ms, maybe_from_ms
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.headers import are_headers, decode_headers
from taquba_workflow_sync.storage.port.job import AttemptRow, JobRow
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus, Verdict
from taquba_workflow_sync.storage.port.texts import readable_error


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One durable job as it was when it was read. Times are aware, in UTC.

    ``completed_at`` is set once the job is done or cancelled, ``failed_at`` once it is dead or its run failed;
    ``lease_expires_at`` while it is claimed. ``dedup_key`` is held only while the job waits.
    """

    id: str
    queue: str
    payload: bytes
    headers: dict[str, str]
    status: JobStatus
    attempts: int
    max_attempts: int
    priority: int
    step: int
    enqueued_at: datetime
    claimed_at: datetime | None = None
    lease_expires_at: datetime | None = None
    run_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    last_error: str | None = None
    dedup_key: str | None = None
    cancel_requested: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """A job held under a lease. ``token`` is unique to this claim and is what every settlement is fenced by.

    ``cancel_token`` is set when the job's cancellation was requested or the claim was lost; for a bare claim (made by
    ``Queue.claim``) only by a cancel in this process.
    """

    job: JobRecord
    token: str
    cancel_token: threading.Event


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs in the order they were put in; ``next_cursor`` is None on the last page."""

    jobs: list[JobRecord]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class KeyValuePage:
    """Some (key, value) pairs in their order; ``next_cursor`` is None on the last page."""

    items: list[tuple[str, bytes]]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class QueueStats:
    """A queue's counters. ``done`` and ``cancelled`` count all ever, the others what is there now.

    ``pending`` counts what is parked for its limit key, too. ``paused``: nothing is claimed until it is resumed.
    """

    queue: str
    pending: int
    scheduled: int
    claimed: int
    done: int
    dead: int
    cancelled: int
    paused: bool = False


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What ``Queue.check`` found: ``problems`` says what is wrong, where, and what to do."""

    ok: bool
    problems: list[str]


@dataclass(frozen=True, slots=True)
class JobAttempt:
    """One claim of a job that has ended, and how. ``traceback``: the last 8 KiB of the error's, if it failed by one."""

    step: int
    attempt: int
    claimed_at: datetime
    ended_at: datetime
    outcome: AttemptOutcome
    error: str | None
    traceback: str | None = None


def damage_of(row: ClaimedRow) -> str | None:
    """Return why a claimed row cannot be worked on: running it with guessed headers could do harm unnoticed."""
    if row.damage is not None or are_headers(row.headers):
        return row.damage
    return "the stored row is damaged: its headers cannot be decoded"


def step_key(run_id: str, step: int) -> str:
    """Return the dedup key that a waiting step of a run reads."""
    return f"run:{run_id}:{step}"


def record_of(row: JobRow) -> JobRecord:
    """Return the record of a stored row."""
    status = row.status
    has_failed = status is JobStatus.DEAD or row.verdict is Verdict.FAILED
    finished_at = maybe_from_ms(row.finished_ms)
    dedup_key = row.dedup_key
    if row.run_id is not None and status in (JobStatus.PENDING, JobStatus.SCHEDULED):
        dedup_key = step_key(row.run_id, row.step)
    return JobRecord(
        id=row.id,
        queue=row.queue,
        payload=row.payload,
        headers=decode_headers(row.headers, row.run_id, row.step),
        status=status,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        priority=row.priority,
        step=row.step,
        enqueued_at=from_ms(row.enqueued_ms),
        claimed_at=maybe_from_ms(row.claimed_ms),
        lease_expires_at=maybe_from_ms(row.lease_until_ms),
        run_at=maybe_from_ms(row.run_at_ms),
        completed_at=finished_at if status in (JobStatus.DONE, JobStatus.CANCELLED) else None,
        failed_at=finished_at if has_failed else None,
        last_error=row.damage or readable_error(row.last_error),
        dedup_key=dedup_key,
        cancel_requested=row.cancel_requested,
    )


def record_of_claim(row: ClaimedRow) -> JobRecord:
    """Return the record of a job just claimed."""
    return JobRecord(
        id=row.id,
        queue=row.queue,
        payload=row.payload,
        headers=decode_headers(row.headers, row.run_id, row.step),
        status=JobStatus.CLAIMED,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        priority=row.priority,
        step=row.step,
        enqueued_at=from_ms(row.enqueued_ms),
        claimed_at=from_ms(row.claimed_ms),
        lease_expires_at=from_ms(row.lease_until_ms),
        run_at=maybe_from_ms(row.run_at_ms),
        last_error=readable_error(row.last_error),
        cancel_requested=row.cancel_requested,
    )


def attempt_of(row: AttemptRow, trace: str | None = None) -> JobAttempt:
    """Return the record of an ended claim."""
    return JobAttempt(
        step=row.step,
        attempt=row.attempt,
        claimed_at=from_ms(row.claimed_ms),
        ended_at=from_ms(row.ended_ms),
        outcome=row.outcome,
        error=readable_error(row.error),
        traceback=readable_error(trace),
    )
