"""A job as it is put in, stored and shown. Times are milliseconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from taquba_workflow_sync.storage.port.run import RunName

#: The most rows that one sweep removes.
SWEEP_LIMIT: Final = 500


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
