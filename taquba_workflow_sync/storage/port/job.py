"""A job as it is put in, stored and shown. Times are milliseconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from taquba_workflow_sync.storage.port.run import RunName
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus, Verdict

#: The most rows that one sweep removes.
SWEEP_LIMIT: Final = 500


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to insert; limits and retention are frozen on the row.

    ``headers`` is a JSON object, or empty for none. ``keep_done_ms`` None: a bare job leaves no row when it is done
    or cancelled. ``keep_dead_ms`` None: dead letters stay until they are requeued. A run has ``run`` set and is kept,
    visible, for ``keep_done_ms`` however it ended. ``id_given``: the id is the caller's own and may be taken.
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
    id_given: bool = False


class Inserted(NamedTuple):
    """What became of one new job: its id, or that of the job that was there already."""

    job_id: str
    is_new: bool


class JobRow(NamedTuple):
    """A stored job as it is now.

    ``is_visible``: it is active, or finished and within its retention by the store's clock. ``owner``: who holds the
    claim of a worker loop, for :meth:`Presence.abandoned_claims`. ``damage`` says what of the stored row cannot be
    read; such a part is empty here.
    """

    id: str
    queue: str
    status: JobStatus
    priority: int
    step: int
    attempts: int
    max_attempts: int
    cancel_requested: bool
    owner: str | None
    enqueued_ms: int
    claimed_ms: int | None
    lease_until_ms: int | None
    run_at_ms: int | None
    finished_ms: int | None
    verdict: Verdict | None
    last_error: str | None
    dedup_key: str | None
    run_id: str | None
    termination: int
    headers: str
    payload: bytes
    result: bytes | None
    is_visible: bool
    damage: str | None = None


class AttemptRow(NamedTuple):
    """One ended claim in a job's history."""

    ordinal: int
    step: int
    attempt: int
    claimed_ms: int
    ended_ms: int
    outcome: AttemptOutcome
    error: str | None
