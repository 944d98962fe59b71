"""What a store holds: rows by id, queues by name, one counter; values that are replaced, never changed."""

from __future__ import annotations

from dataclasses import dataclass, field

from taquba_workflow_sync.storage.port.job import AttemptRow
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.run import RunName
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict


@dataclass(frozen=True, slots=True)
class Held:
    """A claim; ``owner`` None: a bare one."""

    token: str
    owner: str | None
    lease_until_ms: int
    lease_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One job. ``number`` is its place in listings, ``place`` its place in line; ``due_ms`` is what it waits for."""

    id: str
    queue: str
    number: int
    place: int
    status: JobStatus
    payload: bytes
    headers: str
    priority: int
    max_attempts: int
    keep_done_ms: int | None
    keep_dead_ms: int | None
    run: RunName | None
    enqueued_ms: int
    run_at_ms: int | None
    due_ms: int | None
    dedup_key: str | None
    step: int = 0
    attempts: int = 0
    ordinal: int = 0
    cancel_requested: bool = False
    held: Held | None = None
    claimed_ms: int | None = None
    finished_ms: int | None = None
    expires_ms: int | None = None
    verdict: Verdict | None = None
    last_error: str | None = None
    result: bytes | None = None
    termination: int = 0
    history: tuple[AttemptRow, ...] = ()

    @property
    def run_id(self) -> str | None:
        """The name of the run, if it is one."""
        return None if self.run is None else self.run.run_id

    @property
    def is_waiting(self) -> bool:
        """Whether it is in line, now or later."""
        return self.status in (JobStatus.PENDING, JobStatus.SCHEDULED)

    def is_visible(self, now_ms: int) -> bool:
        """Whether it is active, or within its retention."""
        if self.finished_ms is None:
            return True
        if self.run is not None:
            return now_ms < self.finished_ms + (self.keep_done_ms or 0)
        return self.expires_ms is None or now_ms < self.expires_ms


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """What is known of a queue beside its rows: how many were done and cancelled ever, and who is told of ends."""

    done: int = 0
    cancelled: int = 0
    subscription: Subscription | None = None


@dataclass(slots=True)
class State:
    """All of it; two states of equal content are equal."""

    rows: dict[str, Row] = field(default_factory=dict)
    queues: dict[str, QueueRecord] = field(default_factory=dict)
    last_number: int = 0

    def copy(self) -> State:
        """Return one that can be changed without this one noticing."""
        return State(dict(self.rows), dict(self.queues), self.last_number)

    def of_queue(self, queue: str, *statuses: JobStatus) -> list[Row]:
        """Return the rows of a queue, all or of some statuses, in the order they were put in."""
        found = [row for row in self.rows.values() if row.queue == queue and (not statuses or row.status in statuses)]
        return sorted(found, key=lambda row: row.number)
