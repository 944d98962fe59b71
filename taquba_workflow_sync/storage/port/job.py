"""A job as it is put in, stored and shown. Times are milliseconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from taquba_workflow_sync.storage.port.progress import Progress
from taquba_workflow_sync.storage.port.run import RunName
from taquba_workflow_sync.storage.port.settings import StepSettings
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus, Verdict
from taquba_workflow_sync.storage.port.timing import TimeLimits

#: The most rows that one sweep removes, of whatever table.
SWEEP_LIMIT: Final = 500


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to insert; limits and retention are frozen on the row.

    ``headers`` is a JSON object, or empty for none. ``keep_done_ms`` None: a bare job leaves no row when it is done
    or cancelled. ``keep_dead_ms`` None: dead letters stay until they are requeued. A run has ``run`` set and is kept,
    visible, for ``keep_done_ms`` however it ended. ``id_given``: the id is the caller's own and may be taken.
    ``settings``: the label is the first step's, the backoff and the step timeout every step's (whose attempts and
    priority are the fields above). ``limits`` and ``settings`` are for runs.
    ``limit_key``: which of the queue's limits it is under, beside the queue's own. ``aging_ms``: how much waiting 1,000
    points of priority are worth; None: priority is strict. ``is_bounded``: it is refused where the queue is full.
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
    limits: TimeLimits | None = None
    settings: StepSettings | None = None
    limit_key: str | None = None
    aging_ms: int | None = None
    is_bounded: bool = False


class Inserted(NamedTuple):
    """What became of one new job: its id, or that of the job that was there already."""

    job_id: str
    is_new: bool


class JobRow(NamedTuple):
    """A stored job as it is now.

    ``is_visible``: it is active, or finished and within its retention by the store's clock. ``owner``: who holds the
    claim of a worker loop, for :meth:`Presence.abandoned_claims`. ``damage`` says what of the stored row cannot be
    read; such a part is empty here. ``wait``: what it waits for other than a time, by kind and name, until it is due.
    ``label`` is the current step's; ``is_overdue``: it runs for longer than it may; ``is_late``: its run's deadline has
    passed while it runs. ``progress``: what the step said under the claim that holds now. ``is_parked``: it is pending
    and waits for its limit key. ``parent``: what the run is called that spawned it; ``children``: how many it has
    spawned.
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
    wait: tuple[str, str] | None = None
    label: str | None = None
    is_overdue: bool = False
    is_late: bool = False
    progress: Progress | None = None
    limit_key: str | None = None
    is_parked: bool = False
    parent: str | None = None
    children: int = 0


class AttemptRow(NamedTuple):
    """One ended claim in a job's history."""

    ordinal: int
    step: int
    attempt: int
    claimed_ms: int
    ended_ms: int
    outcome: AttemptOutcome
    error: str | None
