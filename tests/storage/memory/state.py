"""What a store holds: rows by id, queues by name, one counter; values that are replaced, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from taquba_workflow_sync.storage.port.event import Note, Worker
from taquba_workflow_sync.storage.port.group import NewGroup
from taquba_workflow_sync.storage.port.job import AttemptRow
from taquba_workflow_sync.storage.port.kv import Value
from taquba_workflow_sync.storage.port.limit import Limit, Parked
from taquba_workflow_sync.storage.port.meter import Series
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.progress import Progress
from taquba_workflow_sync.storage.port.run import RunName
from taquba_workflow_sync.storage.port.schedule import ScheduleKind, Seen
from taquba_workflow_sync.storage.port.settings import CurrentSettings, RunDefaults
from taquba_workflow_sync.storage.port.signals import StoredSignal
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.timing import Ends, TimeLimits
from taquba_workflow_sync.storage.port.wait import Wait

NO_ENDS = Ends(None, None)

#: A claim that a rate counts: queue, key ('' the queue's own), job, when.
Rated = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True)
class Held:
    """A claim; ``owner`` None: a bare one."""

    token: str
    owner: str | None
    lease_until_ms: int
    lease_ms: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a row waits for; ``ordinal`` is that of the claim that fixed how it ended, with ``signal`` or without.

    ``has_come``: the group that it is for has ended.
    """

    wait: Wait
    ordinal: int | None = None
    signal: int | None = None
    has_come: bool = False


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
    defaults: RunDefaults
    given: CurrentSettings
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
    limits: TimeLimits | None = None
    ends: Ends = NO_ENDS
    is_late: bool = False
    is_retry: bool = False
    step_memo: tuple[tuple[str, bytes], ...] = ()
    run_memo: tuple[tuple[str, bytes], ...] = ()
    refusals: int = 0
    signals: tuple[tuple[int, StoredSignal], ...] = ()
    signal_ids: tuple[str, ...] = ()
    waiting: Waiting | None = None
    history: tuple[AttemptRow, ...] = ()
    #: Who made the attempts of the history, by their ordinals; bare claims are nobody's.
    workers: Mapping[int, Worker] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    #: Tracebacks of the attempts of the history, by their ordinals.
    traces: Mapping[int, str] = field(default_factory=dict)
    cancel_reason: str | None = None
    #: What was said, and under which claim.
    progress: tuple[str, Progress] | None = None
    rank: int = 0
    parked: Parked = Parked.NO
    limit_key: str | None = None
    aging_ms: int | None = None
    #: The group it is a member of, and where; held until that is open. From its end on it is shown for a while.
    group: str | None = None
    position: int = 0
    is_held: bool = False
    shown_until_ms: int | None = None
    parent: str | None = None
    parent_run: str | None = None
    children: int = 0

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
        if self.group is not None:
            return self.shown_until_ms is None or now_ms < self.shown_until_ms
        if self.run is not None:
            return now_ms < self.finished_ms + (self.keep_done_ms or 0)
        return self.expires_ms is None or now_ms < self.expires_ms


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """What is known of a queue beside its rows: how many were done and cancelled ever, and who is told of ends."""

    done: int = 0
    cancelled: int = 0
    subscription: Subscription | None = None
    is_paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecord:
    """A schedule of a queue."""

    kind: ScheduleKind
    definition: str
    payload: bytes
    defined_ms: int
    seen: Seen
    next_ms: int | None
    number: int
    is_paused: bool = False
    last_run_id: str | None = None
    last_job: str | None = None


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """A group; ``key`` is never another one's. ``name`` None: it was forgotten."""

    key: str
    name: str | None
    new: NewGroup
    parent: str | None
    writer: str | None = None
    is_open: bool = False
    cancel_requested: bool = False
    waiter: str | None = None
    expires_ms: int | None = None


@dataclass(slots=True)
class State:
    """All of it; two states of equal content are equal."""

    rows: dict[str, Row] = field(default_factory=dict)
    queues: dict[str, QueueRecord] = field(default_factory=dict)
    schedules: dict[tuple[str, str], ScheduleRecord] = field(default_factory=dict)
    last_number: int = 0
    values: dict[str, Value] = field(default_factory=dict)
    limits: dict[tuple[str, str], Limit] = field(default_factory=dict)
    unsettled: set[str] = field(default_factory=set)
    rated: tuple[Rated, ...] = ()
    line_clock: int = 0
    groups: dict[str, GroupRecord] = field(default_factory=dict)
    graphs: dict[str, str] = field(default_factory=dict)
    #: Series as they stand (0), and what was added to them in a minute.
    meters: dict[tuple[int, Series], int] = field(default_factory=dict)
    #: The owners that work, or have.
    enrolled: set[str] = field(default_factory=set)

    def copy(self) -> State:
        """Return one that can be changed without this one noticing."""
        return State(
            dict(self.rows),
            dict(self.queues),
            dict(self.schedules),
            self.last_number,
            dict(self.values),
            dict(self.limits),
            set(self.unsettled),
            self.rated,
            self.line_clock,
            dict(self.groups),
            dict(self.graphs),
            dict(self.meters),
            set(self.enrolled),
        )

    def of_queue(self, queue: str, *statuses: JobStatus, with_held: bool = False) -> list[Row]:
        """Return the rows of a queue, all or of some statuses, in the order they were put in; without held ones."""
        found = [row for row in self.rows.values() if row.queue == queue and (not statuses or row.status in statuses)]
        found = [row for row in found if with_held or not row.is_held]
        return sorted(found, key=lambda row: row.number)
