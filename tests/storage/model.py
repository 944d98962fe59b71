"""The state machine of the design as plain dicts: what the store must show after each transition.

Every status change goes through :meth:`Model._move`, which looks it up in the transition table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final

from taquba_workflow_sync.storage.port.effects import (
    Add,
    ComparePut,
    Delete,
    Effect,
    Insert,
    OpenGroup,
    Put,
    SendSignal,
)
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.limit import HoldFor, Limit, Rate
from taquba_workflow_sync.storage.port.memo import MemoScope
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.storage.port.schedule import Fired, Mark, NewSchedule
from taquba_workflow_sync.storage.port.settings import StepSettings
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Hold,
    Nack,
    PutBack,
    Release,
    SettleCancelled,
)
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.timing import Ends, late_at
from taquba_workflow_sync.storage.port.transitions import TRANSITIONS
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind

PENDING, SCHEDULED, CLAIMED = JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.CLAIMED
DONE, DEAD, CANCELLED = JobStatus.DONE, JobStatus.DEAD, JobStatus.CANCELLED
FINISHED: Final = (DONE, DEAD, CANCELLED)
BARE: Final = "bare"
SHORTEST_LIFE_MS: Final = 60_000
#: What ends a row that nobody holds.
_ENDS_OF_WAITING: Final = ("cancel", "exceed_deadline", "expire")
GROUP_LIFE_MS: Final = 120_000
#: What of a run's history is noted beside its row.
_NOTED: Final = ("cancel_requested", "retried", "signal_dropped")
_TABLE: Final = {each.name: each for each in TRANSITIONS}

Refused = str  # the name of the error's class


@dataclass(eq=False)
class Signal:
    """One signal; two are the same only if they are one."""

    name: str
    payload: bytes
    id: str | None


@dataclass
class Row:
    """One job as the model has it."""

    new: NewJob
    seq: int
    place: int
    status: JobStatus
    enqueued_ms: int
    payload: bytes
    step: int = 0
    attempts: int = 0
    due_ms: int | None = None
    cancel_requested: bool = False
    dedup_key: str | None = None
    token: str | None = None
    owner: str | None = None
    lease_until_ms: int | None = None
    finished_ms: int | None = None
    expires_ms: int | None = None
    verdict: Verdict | None = None
    last_error: str | None = None
    result: bytes | None = None
    termination: int = 0
    history: list[tuple[int, int, str]] = field(default_factory=list)
    refusals: int = 0
    #: Whether it waits to be tried again.
    is_retry: bool = False
    priority: int = 0
    max_attempts: int = 0
    label: str | None = None
    deadline_ms: int | None = None
    starts_by_ms: int | None = None
    is_late: bool = False
    #: What happened, as it happens: kind, step, and the attempt, the outcome or the reason.
    events: list[tuple[str, int, object]] = field(default_factory=lambda: [("submitted", 0, None)])
    cancel_reason: str | None = None
    progress: tuple[str, int] | None = None
    parked: int = 0
    memos: dict[MemoScope, dict[str, bytes]] = field(default_factory=lambda: {scope: {} for scope in MemoScope})
    signals: list[Signal] = field(default_factory=list)
    signal_ids: set[str] = field(default_factory=set)
    group: str | None = None
    #: Whether it has spawned runs, or was spawned.
    is_related: bool = False
    wait: Wait | None = None
    #: Whether the group that it waits for has ended.
    has_come: bool = False
    #: What the wait has ended with, once a claim has fixed it, and the number of that claim.
    fixed: tuple[Signal | None, int] | None = None
    claims: int = 0

    def found(self) -> Signal | None:
        """What a claim brings to the step: fixed, or else the first signal of the name."""
        if self.fixed is not None:
            return self.fixed[0]
        if self.wait is None or self.wait.kind is not WaitKind.SIGNAL:
            return None
        return next((each for each in self.signals if each.name == self.wait.name), None)

    def end_step(self) -> None:
        self.memos[MemoScope.STEP] = {}
        self.refusals = 0
        if self.fixed is not None and self.fixed[0] is not None:
            self.signals.remove(self.fixed[0])
        self.wait = self.fixed = None
        self.has_come = False

    @property
    def run_id(self) -> str | None:
        return None if self.new.run is None else self.new.run.run_id

    def __post_init__(self) -> None:
        self.is_given(None)
        given, limits = self.new.settings, self.new.limits
        self.label = None if given is None else given.label
        if limits is None:
            return
        begin = max(self.enqueued_ms, self.new.run_at_ms or 0)
        self.deadline_ms = limits.deadline_ms
        if limits.deadline_after_ms is not None:
            self.deadline_ms = begin + limits.deadline_after_ms
        if limits.expires_after_ms is not None:
            self.starts_by_ms = begin + limits.expires_after_ms

    def is_given(self, given: StepSettings | None) -> None:
        """What a step has: what it is given, else what the run has; a label is its own."""
        given = given or StepSettings()
        self.priority = self.new.priority if given.priority is None else given.priority
        self.max_attempts = self.new.max_attempts if given.max_attempts is None else given.max_attempts
        self.label = given.label

    def end_ms(self) -> int | None:
        """When a claim must look after it; None: not for its limits."""
        if self.status in FINISHED or (self.status is CLAIMED and self.cancel_requested):
            return None
        starts_by_ms = None if self.status is CLAIMED else self.starts_by_ms
        return min((each for each in (self.deadline_ms, starts_by_ms) if each is not None), default=None)

    def is_past_deadline(self, now: int) -> bool:
        return self.deadline_ms is not None and self.deadline_ms <= now

    def has_belongings(self) -> bool:
        """Whether it cannot be settled in bulk."""
        is_told_of = self.progress or any(kind in _NOTED for kind, _, _ in self.events)
        has_rows = self.new.limits or self.new.settings or self.label or self.signals or self.signal_ids or self.wait
        has_rows = has_rows or self.is_related or is_told_of
        return bool(has_rows or self.new.limit_key or self.refusals or self.group or len(self.payload) > 2_048) or (
            any(self.memos.values()) or (self.priority, self.max_attempts) != (self.new.priority, self.new.max_attempts)
        )

    def is_kept(self, now: int) -> bool:
        if self.group is not None:
            longer = max(SHORTEST_LIFE_MS - (self.new.keep_done_ms or 0), 0)
            return self.expires_ms is None or now < self.expires_ms - longer
        return self.finished_ms is None or now < self.finished_ms + (self.new.keep_done_ms or 0)


@dataclass
class ModelSchedule:
    definition: str
    mark: Mark
    is_paused: bool = False
    last_run_id: str | None = None
    last_job: str | None = None


@dataclass
class Group:
    """A group as the model has it."""

    name: str
    queue: str
    total: int
    waiter: str | None = None
    cancel_requested: bool = False
    expires_ms: int | None = None


@dataclass
class Written:
    """A group that is written and not open: its members, which nobody sees, and the run or the handle that wrote it."""

    queue: str
    rows: list[Row]
    parent: str | None
    writer: int


class Model:
    """What a store holds, and what each transition answers."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.ever: dict[tuple[str, JobStatus], int] = {}
        self.queues: set[str] = set()
        self.observers: dict[str, str] = {}
        self.values: dict[str, tuple[bytes, int | None]] = {}
        self.schedules: dict[tuple[str, str], ModelSchedule] = {}
        self.limits: dict[tuple[str, str | None], Limit] = {}
        self.paused: set[str] = set()
        #: Every claim that counts: queue, key, job, when.
        self.claims: list[tuple[str, str | None, str, int]] = []
        self.groups: dict[str, Group] = {}
        self.written: dict[str, Written] = {}
        #: Groups that the effects of a settlement open, and have not come to.
        self.to_open: set[str] = set()
        self._next = 0

    def _number(self) -> int:
        self._next += 1
        return self._next

    # The table

    def _move(self, name: str, row: Row, target: JobStatus | None) -> None:
        """Change a row's status (None: the row leaves) as the transition ``name`` of the table allows."""
        transition = _TABLE[name]
        assert row.status in transition.sources, f"{name} from {row.status} is not in the table"
        if target is None:
            assert transition.may_vanish or not transition.targets, f"{name} never removes the row"
            del self.rows[row.new.id]
            return
        assert target in transition.targets, f"{name} to {target} is not in the table"
        row.status = target
        if target is not CLAIMED:
            row.token = row.owner = row.lease_until_ms = None

    # Transitions

    def insert(self, job: NewJob, now: int) -> tuple[str, bool] | Refused:
        if job.run is not None:
            lives = [row for row in self.rows.values() if row.run_id == job.run.run_id and row.new.queue == job.queue]
            active = [row for row in lives if row.status not in FINISHED]
            known = active[0] if active else max(lives, key=lambda row: row.seq, default=None)
            if known is not None and (active or known.is_kept(now)):
                assert known.new.run is not None
                rerun = job.run.if_finished
                if known.new.run.input_hash != job.run.input_hash and (active or rerun is not IfFinished.RERUN):
                    return "InputMismatchError"
                failed = known.status is DEAD or known.verdict is Verdict.FAILED
                again = rerun is IfFinished.RERUN or (rerun is IfFinished.RERUN_FAILED and failed)
                if active or not again:
                    return known.new.id, False
        elif job.dedup_key is not None:
            for row in self.rows.values():
                if row.new.queue == job.queue and row.dedup_key == job.dedup_key:
                    return row.new.id, False
        if job.id_given and job.id in self.rows:
            return "DuplicateJobIdError"
        self._write(job, now)
        return job.id, True

    def _write(self, job: NewJob, now: int) -> None:
        later = job.run_at_ms is not None and job.run_at_ms > now
        target = SCHEDULED if later else PENDING
        assert target in _TABLE["enqueue"].targets and not _TABLE["enqueue"].sources
        number = self._number()
        self.rows[job.id] = Row(
            job, number, number, target, now, job.payload,
            due_ms=job.run_at_ms if later else None, dedup_key=job.dedup_key,
        )  # fmt: skip
        self.queues.add(job.queue)
        if not later:
            self._enter(self.rows[job.id], now)

    def promote(self, queue: str, now: int) -> None:
        for row in self._in(queue, SCHEDULED):
            if row.due_ms is not None and row.due_ms <= now:
                self._move("promote", row, PENDING)
                row.due_ms = None
                if row.new.limit_key is not None:
                    row.parked = max(row.parked, 1)
        self._tidy(queue, now, may_swap=True)

    def end_late(self, queue: str, now: int) -> None:
        active = [row for status in (PENDING, SCHEDULED, CLAIMED) for row in self._in(queue, status)]
        late_rows = [(end, row.seq, row) for row in active if (end := row.end_ms()) is not None and end <= now]
        for end, _, row in sorted(late_rows, key=lambda each: each[:2]):
            late = late_at(now, Ends(row.deadline_ms, row.starts_by_ms))
            assert late is not None
            if row.status is CLAIMED:
                self._move("request_stop", row, CLAIMED)
                row.cancel_requested = row.is_late = True
            elif row.status not in (PENDING, SCHEDULED):
                continue  # the end of one before has ended it
            elif row.cancel_requested and not row.is_late:
                self._end("cancel", row, CANCELLED, now)
            elif row.deadline_ms is not None and row.deadline_ms == end:
                self._end("exceed_deadline", row, DEAD, now, error=late.why)
            else:
                self._end("expire", row, CANCELLED, now, error=late.why)

    def promote_and_reap(
        self, queue: str, now: int, dead: Collection[str], given_up: Collection[str], never_reap: Collection[str]
    ) -> None:
        self.end_late(queue, now)
        self.promote(queue, now)
        for row in self._in(queue, CLAIMED):
            assert row.lease_until_ms is not None
            expired = row.owner == BARE and row.lease_until_ms <= now
            is_abandoned = (row.owner in dead or row.token in given_up) and row.token not in never_reap
            if not (expired or is_abandoned):
                continue
            self._ended(row, "reaped")
            if row.cancel_requested and not row.is_late:
                self._end("reap", row, CANCELLED, now)
            elif row.is_past_deadline(now) or row.attempts >= row.max_attempts:
                self._end("reap", row, DEAD, now, error="out of attempts or time")
            else:
                self._go_on("reap", row, PENDING, now)
                row.starts_by_ms = None
                row.last_error = "reaped"

    def line(self, queue: str) -> list[Row]:
        """Who is first: by priority, then by place."""
        return sorted((row for row in self._in(queue, PENDING) if not row.parked), key=_in_line)

    def claimable(self, queue: str, now: int) -> list[Row]:
        """Who may be claimed: those first in line, as far as the queue's own limit and its pause allow."""
        line = self.line(queue)
        if queue in self.paused:
            return []
        own = self.limits.get((queue, None))
        if own is not None and own.concurrency is not None:
            line = line[: max(own.concurrency - len(self._in(queue, CLAIMED)), 0)]
        if own is not None and own.rate is not None:
            line = line[: max(own.rate.most - len(self._window(queue, None, own.rate, now)), 0)]
        return line

    # Limits: after each transition, each key is tidied up by the two rules that limits are made of

    def limit_of(self, queue: str, key: str | None) -> Limit | None:
        """The exact limit of a key, else that of the longest pattern."""
        if key is None:
            return None
        for pattern in (key, *(key[:many] + "*" for many in range(len(key), -1, -1))):
            if (queue, pattern) in self.limits:
                return self.limits[queue, pattern]
        return None

    def set_limit(self, queue: str, limit: Limit | None, pattern: str | None, now: int) -> None:
        """Set a limit, or clear it, and park again what stands above it."""
        if limit is None:
            self.limits.pop((queue, pattern), None)
        else:
            self.limits[queue, pattern] = limit
            self.queues.add(queue)
        for key in self._keys(queue):
            self._park_surplus(queue, key, now)
        self._tidy(queue, now)

    def _park_surplus(self, queue: str, key: str, now: int) -> None:
        limit = self.limit_of(queue, key)
        rows = [row for row in self.rows.values() if (row.new.queue, row.new.limit_key) == (queue, key)]
        if limit is None or limit.hold is HoldFor.STEP:
            for row in rows:
                if row.parked == 3:
                    row.parked = 1 if row.status is PENDING else 0
        if limit is None:
            return
        keeps = limit.hold is HoldFor.RUN
        while True:
            slots = -self._free(queue, key, limit)
            rate = -self._room(queue, key, limit, now)
            line = sorted((row for row in rows if row.status is PENDING and not row.parked), key=_in_line)
            line.sort(key=lambda row: (not (keeps and row.claims > 0), _in_line(row)))
            if max(slots, rate) <= 0 or not line:
                break
            last = line[-1]
            last.parked = 3 if keeps and last.claims > 0 and slots <= 0 else 1
        kept = sorted(
            (row for row in rows if row.parked == 3), key=lambda row: (row.status is SCHEDULED, _in_line(row))
        )
        for row in kept[: max(-self._free(queue, key, limit), 0)]:
            row.parked = 1 if row.status is PENDING else 0

    def _keys(self, queue: str) -> list[str]:
        return sorted({str(row.new.limit_key) for row in self._in_all(queue) if row.new.limit_key is not None})

    def _in_all(self, queue: str) -> list[Row]:
        return [row for row in self.rows.values() if row.new.queue == queue]

    def _free(self, queue: str, key: str, limit: Limit) -> int:
        """How many slots are free; negative: so many are too many."""
        taken = 0
        for row in self._in_all(queue):
            if row.new.limit_key == key:
                taken += row.status is CLAIMED or (row.status is PENDING and not row.parked)
                taken += row.status in (PENDING, SCHEDULED) and row.parked == 3 and limit.hold is HoldFor.RUN
        return 10**9 if limit.concurrency is None else limit.concurrency - taken

    def _room(self, queue: str, key: str, limit: Limit, now: int) -> int:
        """How many more the rate lets into the line."""
        if limit.rate is None:
            return 10**9
        in_line = [row for row in self.line(queue) if row.new.limit_key == key]
        return limit.rate.most - len(in_line) - len(self._window(queue, key, limit.rate, now))

    def _window(self, queue: str, key: str | None, rate: Rate, now: int) -> list[int]:
        return [at for q, k, _, at in self.claims if (q, k) == (queue, key) and at > now - rate.window_ms]

    def rate_counts(self, queue: str, key: str, now: int) -> int:
        """How many claims the rate of a key counts now."""
        limit = self.limit_of(queue, key)
        return 0 if limit is None or limit.rate is None else len(self._window(queue, key, limit.rate, now))

    def _enter(self, row: Row, now: int, *, has_slot: bool = False) -> None:
        if self.limit_of(row.new.queue, row.new.limit_key) is not None:
            row.parked = 3 if has_slot else 1
            self._tidy_key(row.new.queue, str(row.new.limit_key), now, may_swap=True)

    def _enter_early(self, row: Row, now: int) -> None:
        """Put a row in line that was scheduled for later, and keeps a slot if it had one."""
        has_slot, row.due_ms, row.parked = row.parked == 3, None, 0
        self._enter(row, now, has_slot=has_slot)

    def _begin_wait(self, row: Row, wait: Wait, now: int) -> JobStatus:
        """Where a row stands that begins to wait."""
        row.wait, row.has_come = wait, self._has_come(wait)
        if wait.kind is WaitKind.GROUP:
            self.groups[wait.name].waiter = row.new.id
            self._clear_expiry(self.groups[wait.name])
        is_there = row.has_come or row.found() is not None or wait.timeout_ms == 0
        row.due_ms = None if is_there or wait.timeout_ms is None else now + wait.timeout_ms
        return PENDING if is_there else SCHEDULED

    def _go_on(self, name: str, row: Row, target: JobStatus, now: int) -> None:
        """End a claim whose run goes on."""
        self._move(name, row, target)
        queue, key = row.new.queue, row.new.limit_key
        limit = self.limit_of(queue, key)
        if limit is None or key is None:
            return
        free = self._free(queue, key, limit) + (target is PENDING)
        has_slot = limit.hold is HoldFor.RUN and free > 0
        if target is PENDING:
            self._enter(row, now, has_slot=has_slot)
        elif has_slot:
            row.parked = 3
        self._tidy_key(queue, key, now)

    def _tidy(self, queue: str, now: int, *, may_swap: bool = False) -> None:
        for key in self._keys(queue):
            self._tidy_key(queue, key, now, may_swap=may_swap)

    def _tidy_key(self, queue: str, key: str, now: int, *, may_swap: bool = False) -> None:
        """Let in the first that may be while any may; then have better ones change places with worse ones."""
        limit = self.limit_of(queue, key)
        of_key = [row for row in self._in(queue, PENDING) if row.new.limit_key == key]
        while True:
            parked = sorted((row for row in of_key if row.parked), key=_in_line)
            if limit is not None and self._room(queue, key, limit, now) <= 0:
                break
            if limit is not None and self._free(queue, key, limit) <= 0:
                parked = [row for row in parked if row.parked == 3 and limit.hold is HoldFor.RUN]
            if not parked:
                break
            parked[0].parked = 0
        while may_swap and limit is not None:
            parked = sorted((row for row in of_key if row.parked), key=_in_line)
            keeps = limit.hold is HoldFor.RUN
            line = sorted((row for row in of_key if not row.parked and not (keeps and row.claims)), key=_in_line)
            if not parked or not line or _in_line(parked[0]) >= _in_line(line[-1]):
                break
            line[-1].parked, parked[0].parked = 1, 0

    def claim(self, row: Row, token: str, owner: str, until: int, now: int) -> None:
        self._move("claim", row, CLAIMED)
        row.token, row.owner, row.lease_until_ms = token, owner, until
        row.attempts += 1
        row.claims += 1
        row.dedup_key = None
        if row.wait is not None and row.fixed is None:
            row.fixed = row.found(), row.claims
            row.has_come = row.has_come or self._has_come(row.wait)
        row.events.append(("started", row.step, row.attempts))
        queue, key = row.new.queue, row.new.limit_key
        for name, limit in ((None, self.limits.get((queue, None))), (key, self.limit_of(queue, key))):
            if limit is not None and limit.rate is not None:
                self.claims.append((queue, name, row.new.id, now))

    def _ended(self, row: Row, outcome: str) -> None:
        row.history.append((row.step, row.attempts, outcome))
        row.events.append(("ended", row.step, outcome))

    def choose(self, actions: Sequence[Action], now: int) -> set[Hold]:
        """Which claims go on, of those that may: the others make room for what goes first and has none."""
        by_lanes: dict[tuple[str, ...], list[Advance]] = {}
        for action in actions:
            if isinstance(action, Advance) and action.hold is not None:
                by_lanes.setdefault(action.hold.lanes, []).append(action)
        go_on: set[Hold] = set()
        for (queue,), group in by_lanes.items():
            if queue in self.paused or (queue, None) in self.limits:
                continue
            self.promote(queue, now)
            first = group[0].hold
            assert first is not None
            waiting = [(row.priority, row.place) for row in self.line(queue)][first.room :]
            for action in group:
                hold = action.hold
                assert hold is not None
                if waiting:
                    priority, place = waiting[0]
                    if action.keeps_place:
                        goes_first = (priority, place) < (hold.rank, hold.place)
                    else:
                        goes_first = priority < hold.rank + (not hold.is_within_slice)
                    if goes_first:
                        del waiting[0]
                        continue
                go_on.add(hold)
        return go_on

    def settle(
        self,
        job_id: str,
        token: str,
        action: Action,
        now: int,
        *,
        yields: bool,
        goes_on: bool = False,
        effects: Sequence[Effect] = (),
    ) -> Refused | None:
        """A settlement with its effects: all of it, or nothing."""
        before = deepcopy(vars(self)) if effects else {}
        # The row may begin to wait for a group that comes with its end.
        self.to_open = {each.name for each in effects if isinstance(each, OpenGroup) and each.name in self.written}
        for name in self.to_open:
            self._open(name, now)
        answer = self._settle(job_id, token, action, now, yields=yields, goes_on=goes_on)
        refused = None
        if answer in (None, "held", "GroupNotFoundError", "InvalidStateError"):
            refused = self.apply(effects, now, job_id)
        if refused is not None or answer not in (None, "held"):
            vars(self).update(before)
        return refused or answer

    def commit(self, effects: Sequence[Effect], now: int) -> Refused | None:
        before = deepcopy(vars(self))
        refused = self.apply(effects, now)
        if refused is not None:
            vars(self).update(before)
        return refused

    def apply(self, effects: Sequence[Effect], now: int, sender: str | None = None) -> Refused | None:
        """Effects one after the other; ``sender``: the job with whose settlement they come."""
        for effect in effects:
            if isinstance(effect, Insert):
                answer = self.insert(effect.job, now)
                if isinstance(answer, str):
                    return answer
                if answer[1]:
                    self._adopt(sender, self.rows[answer[0]])
                    refused = self.apply(effect.effects, now, sender)
                    if refused is not None:
                        return refused
                continue
            if isinstance(effect, SendSignal):
                sent = Signal(effect.signal.name, effect.signal.payload, effect.signal.id)
                said = self.signal(effect.queue, sent, now, None, effect.run_id)
                if said in ("RunNotFoundError", "InvalidStateError"):
                    if sender is None:
                        return said
                    self._drop_signal(sender)
                continue
            if isinstance(effect, OpenGroup):
                self.to_open.discard(effect.name)
                if effect.name in self.written:
                    self._open(effect.name, now)
                elif effect.name not in self.groups:
                    return "GroupMismatchError"
                continue
            held, until = self.live(now).get(effect.key, (None, None))
            match effect:
                case Put(key=key, value=value, ttl_ms=ttl_ms):
                    self.values[key] = (value, None if ttl_ms is None else now + ttl_ms)
                case Delete(key=key):
                    self.values.pop(key, None)
                case ComparePut(key=key, expected=expected, value=value):
                    if held != expected:
                        return "EffectConflictError"
                    self.values[key] = (value, None)
                case Add(key=key, delta=delta):
                    if held is not None and not held.isdigit():
                        return "EffectConflictError"
                    self.values[key] = (str(int(held or b"0") + delta).encode(), until)
        return None

    def _drop_signal(self, sender: str) -> None:
        row = self.rows.get(sender)
        if row is not None:  # a run that has ended tells its end last
            at = len(row.events) - (row.status in FINISHED)
            row.events.insert(at, ("signal_dropped", row.step, None))

    def _adopt(self, sender: str | None, row: Row) -> None:
        parent = self.rows.get(sender or "")
        if parent is not None and parent.run_id is not None and row.run_id is not None:
            parent.is_related = row.is_related = True

    def live(self, now: int) -> dict[str, tuple[bytes, int | None]]:
        """What keys hold."""
        return {key: each for key, each in self.values.items() if each[1] is None or now < each[1]}

    def _settle(
        self, job_id: str, token: str, action: Action, now: int, *, yields: bool, goes_on: bool = False
    ) -> Refused | None:
        row = self.rows.get(job_id)
        if row is None or row.status is not CLAIMED or row.token != token:
            return "ClaimLostError"
        if row.cancel_requested and yields and not row.is_late:
            return "CancelRequestedError"
        if yields and row.is_past_deadline(now):
            return "LimitPassedError"
        if isinstance(action, Advance) and action.wait is not None and action.wait.kind is WaitKind.GROUP:
            why = self.why_not_waiting(job_id, action.wait.name)
            if why is not None:
                return why
        if not isinstance(action, Release):
            row.starts_by_ms = None
        match action:
            case Advance(payload=payload, hold=Hold(token=next_token)) if goes_on and row.new.limit_key is None:
                self._move("hold", row, CLAIMED)
                self._ended(row, "continued")
                row.step, row.attempts, row.payload, row.last_error = row.step + 1, 1, payload, None
                row.token = next_token
                row.claims += 1
                row.is_given(None)
                row.end_step()
                row.events.append(("started", row.step, 1))
                self._leave(row, now)
                return "held"
            case Advance(payload=payload, wait=Wait() as wait, keeps_place=keeps, settings=given):
                row.is_given(given)
                self._ended(row, "continued")
                row.step, row.attempts, row.payload, row.last_error = row.step + 1, 0, payload, None
                row.is_retry = False
                if not keeps:
                    row.place = self._number()
                row.end_step()
                self._leave(row, now)
                self._go_on("advance", row, self._begin_wait(row, wait, now), now)
            case Advance(payload=payload, delay_ms=delay, keeps_place=keeps, settings=given):
                row.is_given(given)
                self._ended(row, "continued")
                row.due_ms = now + delay if delay else None
                row.step, row.attempts, row.payload, row.last_error = row.step + 1, 0, payload, None
                row.is_retry = False
                if not keeps:
                    row.place = self._number()
                row.end_step()
                self._leave(row, now)
                self._go_on("advance", row, SCHEDULED if delay else PENDING, now)
            case Nack(error=error, delay_ms=delay):
                self._go_on("nack", row, SCHEDULED if delay else PENDING, now)
                self._ended(row, "retried")
                row.due_ms = now + delay if delay else None
                row.is_retry = bool(delay)
                row.last_error = error
                row.refusals = 0
            case PutBack(delay_ms=delay, is_refusal=is_refusal, is_retry=is_retry):
                row.refusals += is_refusal
                row.is_retry = is_retry and bool(delay)
                self._go_on("put_back", row, SCHEDULED if delay else PENDING, now)
                self._ended(row, "put_back")
                row.due_ms = now + delay if delay else None
                row.attempts -= 1
            case Release():
                self._move("release", row, PENDING)
                row.attempts -= 1
                if row.fixed is not None and row.fixed[1] == row.claims:
                    row.fixed = None
                row.claims -= 1
                kinds = [kind for kind, _, _ in row.events]
                del row.events[len(kinds) - 1 - kinds[::-1].index("started")]
                for name in {None, row.new.limit_key}:
                    mine = [n for n, each in enumerate(self.claims) if each[:3] == (row.new.queue, name, job_id)]
                    if mine:
                        del self.claims[mine[-1]]
                if row.new.limit_key is not None:
                    self._park_surplus(row.new.queue, row.new.limit_key, now)
            case Ack(verdict=verdict, result=result, error=error):
                self._ended(row, verdict.value)
                self._end("ack", row, DONE, now, verdict=verdict, result=result, error=error)
            case DeadLetter(error=error):
                self._ended(row, "dead")
                self._end("dead_letter", row, DEAD, now, error=error)
            case SettleCancelled(reason=reason):
                self._ended(row, "cancelled")
                self._end("settle_cancelled", row, CANCELLED, now, error=reason)
        return None

    def _end(
        self,
        name: str,
        row: Row,
        target: JobStatus,
        now: int,
        *,
        verdict: Verdict | None = None,
        result: bytes | None = None,
        error: str | None = None,
    ) -> None:
        if target in (DONE, CANCELLED):
            self.ever[row.new.queue, target] = self.ever.get((row.new.queue, target), 0) + 1
        if row.run_id is not None:
            life: int | None = max(row.new.keep_done_ms or 0, SHORTEST_LIFE_MS)
        else:
            life = row.new.keep_dead_ms if target is DEAD else row.new.keep_done_ms or 0
        row.dedup_key = row.due_ms = None
        row.parked = 0
        awaited = [each.name for each in self.groups.values() if each.waiter == row.new.id and name in _ENDS_OF_WAITING]
        if life == 0:
            self._leave(row, now)
            self._move(name, row, None)
            for each in awaited:
                self.cancel_group(each, now)
            return
        self._move(name, row, target)
        if target is CANCELLED and error is None:
            error = row.cancel_reason
        row.finished_ms, row.result, row.last_error = now, result, error
        row.expires_ms = None if life is None else now + life
        if verdict is Verdict.SUCCEEDED or target is CANCELLED:
            row.end_step()
            self._leave(row, now)
        row.verdict = Verdict.FAILED if target is DEAD and row.run_id is not None else verdict
        if row.new.limit_key is not None:
            self._tidy_key(row.new.queue, row.new.limit_key, now)
        if row.run_id is not None:
            row.termination += 1
            row.events.append(("terminated", row.step, self.shows(row)))
            lane = self.observers.get(row.new.queue)
            if row.group is not None:
                row.expires_ms = None
                self._member_ended(self.groups[row.group], now)
            if lane is not None:
                name = f"{row.new.id}-{row.termination}"
                note = NewJob(name, lane, result or b"", priority=row.priority, max_attempts=5)
                self._write(note, now)
        for each in awaited:
            self.cancel_group(each, now)

    def define(self, new: NewSchedule) -> None:
        known = self.schedules.setdefault((new.queue, new.name), ModelSchedule(new.definition, new.mark))
        known.definition, known.mark = new.definition, new.mark
        self.queues.add(new.queue)

    def fire(
        self, queue: str, name: str, jobs: Sequence[NewJob], mark: Mark | None, now: int, *, skips_active: bool
    ) -> Fired:
        known = self.schedules[queue, name]
        fired = Fired([], [], [])
        for job in jobs:
            assert job.run is not None
            last = self.rows.get(known.last_job or "")
            if skips_active and last is not None and last.status not in FINISHED:
                fired.skipped.append(job.run.run_id)
                continue
            answer = self.insert(job, now)
            if isinstance(answer, str):
                fired.taken.append(job.run.run_id)
                continue
            known.last_job, known.last_run_id = answer[0], job.run.run_id
            fired.runs.append(job.run.run_id)
        known.mark = mark or known.mark
        return fired

    def memo(self, job_id: str, token: str, scope: MemoScope, key: str, value: bytes) -> bytes | Refused:
        row = self.rows.get(job_id)
        if row is None or row.status is not CLAIMED or row.token != token:
            return "ClaimLostError"
        self._move("memo", row, CLAIMED)
        return row.memos[scope].setdefault(key, value)

    def progress(self, job_id: str, token: str, done: int) -> None:
        row = self.rows.get(job_id)
        if row is not None and row.status is CLAIMED and row.token == token:
            self._move("progress", row, CLAIMED)
            row.progress = (token, done)

    def signal(self, queue: str, new: Signal, now: int, submit: NewJob | None, run_id: str) -> str:
        lives = [row for row in self.rows.values() if row.run_id == run_id and row.new.queue == queue]
        newest = max(lives, key=lambda row: (row.status not in FINISHED, row.seq), default=None)
        if newest is not None and new.id in newest.signal_ids:
            return "duplicate"
        if submit is not None:
            answer = self.insert(submit, now)
            if isinstance(answer, Refused):
                return answer
            newest = self.rows[answer[0]]
        if newest is None or not newest.is_kept(now) or newest.group in self.to_open:
            return "RunNotFoundError"
        if newest.status in FINISHED:
            return "InvalidStateError"
        waits = newest.wait is not None and newest.wait[:2] == (WaitKind.SIGNAL, new.name) and newest.fixed is None
        is_delivered = waits and newest.found() is None
        newest.signals.append(new)
        if new.id is not None:
            newest.signal_ids.add(new.id)
        self._move("signal", newest, PENDING if is_delivered else newest.status)
        if is_delivered:
            self._enter_early(newest, now)
        return "delivered" if is_delivered else "buffered"

    def clear_signals(self, job_id: str, name: str) -> int:
        row = self.rows.get(job_id)
        if row is None:
            return 0
        self._move("clear_signals", row, row.status)
        spared = row.found()
        left = [each for each in row.signals if each.name != name or each is spared]
        removed, row.signals = len(row.signals) - len(left), left
        return removed

    def wake(self, job_id: str, now: int) -> bool:
        row = self.rows.get(job_id)
        if row is None or row.status is not SCHEDULED or (row.wait is not None and row.fixed is None):
            return False
        self._move("wake", row, PENDING)
        self._enter_early(row, now)
        return True

    def waiting_for(self, row: Row) -> str | None:
        if row.status is PENDING and row.parked:
            return f"limit:{row.new.limit_key}"
        if row.status is not SCHEDULED:
            return None
        return "time" if row.wait is None or row.fixed is not None else f"{row.wait.kind}:{row.wait.name}"

    def cancel(
        self, job_id: str, now: int, dead: Collection[str], never_reap: Collection[str], reason: str | None = None
    ) -> str:
        row = self.rows.get(job_id)
        if row is None or row.status in FINISHED:
            return "not_found"
        if row.status is CLAIMED:
            if row.owner in dead and row.token not in never_reap:
                self._ended(row, "reaped")
                self._end("request_cancel", row, CANCELLED, now, error=row.cancel_reason or reason)
                return "removed"
            self._move("request_cancel", row, CLAIMED)
            if not row.cancel_requested or row.is_late:
                row.events.append(("cancel_requested", row.step, reason))
            row.cancel_requested, row.is_late = True, False
            row.cancel_reason = row.cancel_reason or reason
            return "requested"
        self._end("cancel", row, CANCELLED, now, error=row.cancel_reason or reason)
        return "removed"

    def requeue(
        self, job_id: str, now: int, *, failed_run: bool, payload: bytes | None = None, clears_memo: bool = False
    ) -> Refused | None:
        row = self.rows.get(job_id)
        if row is None:
            return "JobNotFoundError"
        if row.status is not DEAD and not (failed_run and row.verdict is Verdict.FAILED):
            return "InvalidStateError"
        for other in self.rows.values():
            named = row.run_id is not None and (other.run_id, other.new.queue) == (row.run_id, row.new.queue)
            if named and other.status not in FINISHED:
                return "InvalidStateError"
        group = self.groups.get(row.group or "")
        if group is not None and group.cancel_requested and not self.has_ended(group):
            return "InvalidStateError"
        target = PENDING
        if row.wait is not None and row.fixed is None:
            target = self._begin_wait(row, row.wait, now)
        self._move("wait_again" if target is SCHEDULED else "retry" if failed_run else "requeue", row, target)
        if group is not None:
            group.cancel_requested = False
            self._clear_expiry(group)
        row.place, row.attempts, row.cancel_requested = self._number(), 0, False
        row.refusals = 0
        if row.new.limits is not None:
            after = row.new.limits.deadline_after_ms
            row.deadline_ms = None if after is None else now + after
            row.starts_by_ms, row.is_late = None, False
        row.cancel_reason = None
        said = ["with another payload"] * (payload is not None) + ["with its memos cleared"] * clears_memo
        row.events.append(("retried", row.step, ", ".join(said) or None))
        if payload is not None:
            row.payload = payload
        if clears_memo:
            row.memos = {scope: {} for scope in MemoScope}
        row.finished_ms = row.expires_ms = row.verdict = row.last_error = row.result = None
        row.parked = 0
        if target is PENDING:
            self._enter(row, now)
        return None

    def cancel_some(self, queue: str, prefix: str, now: int, never_reap: Collection[str], reason: str | None) -> int:
        active = [row for row in self._runs(queue, prefix) if row.status not in FINISHED]
        for row in reversed(active):
            self.cancel(row.new.id, now, (), never_reap, reason)
        return len(active)

    def retry_some(self, queue: str, prefix: str, now: int) -> int:
        newest = {row.run_id: row for row in self._runs(queue, "")}
        failed = [row for row in self._runs(queue, prefix) if row.verdict is Verdict.FAILED and row.is_kept(now)]
        chosen = [row for row in failed if newest[row.run_id] is row]
        # Members of a group that is being cancelled are passed over.
        return sum(self.requeue(row.new.id, now, failed_run=True) is None for row in chosen)

    def _runs(self, queue: str, prefix: str) -> list[Row]:
        rows = [row for row in self.rows.values() if row.new.queue == queue and (row.run_id or "").startswith(prefix)]
        return sorted((row for row in rows if row.run_id is not None), key=lambda row: row.seq)

    def unsubscribe(self, queue: str, drop_from: str | None) -> int:
        self.observers.pop(queue, None)
        waiting = [] if drop_from is None else [*self._in(drop_from, PENDING), *self._in(drop_from, SCHEDULED)]
        for row in waiting:
            self._move("drop", row, None)
        return len(waiting)

    def sweep(self, now: int, alive: Collection[int]) -> int:
        over = [row for row in self.rows.values() if row.expires_ms is not None and row.expires_ms <= now]
        for row in over:
            self._leave(row, now)
            self._move("sweep", row, None)
        for group in list(self.groups.values()):
            if group.expires_ms is not None and group.expires_ms <= now:
                del self.groups[group.name]
        for name, written in list(self.written.items()):
            parent = self.rows.get(written.parent or "")
            if written.writer not in alive if written.parent is None else parent is None or parent.status in FINISHED:
                del self.written[name]
        return len(over)

    def renew(self, tokens: set[str], until: int) -> set[str]:
        renewed = set()
        for row in self.rows.values():
            if row.status is CLAIMED and row.token in tokens:
                self._move("renew", row, CLAIMED)
                row.lease_until_ms = until
                renewed.add(str(row.token))
        return renewed

    # Groups

    def members(self, name: str) -> list[Row]:
        return [row for row in self.rows.values() if row.group == name]

    def has_ended(self, group: Group) -> bool:
        return all(row.status in FINISHED for row in self.members(group.name))

    def submit_group(self, name: str, queue: str, jobs: Sequence[NewJob], now: int) -> Refused | None:
        """Put in a group whose name is free, unless another run has that of a member; the name of that one then."""
        for job in jobs:
            assert job.run is not None
            lives = [row for row in self.rows.values() if (row.run_id, row.new.queue) == (job.run.run_id, queue)]
            if any(row.is_kept(now) for row in lives):
                return job.run.run_id
        self._number()
        self.queues.add(queue)
        self.groups[name] = Group(name, queue, len(jobs))
        for job in jobs:
            self._write(job, now)
            self.rows[job.id].group = name
        if not jobs:
            self._set_expiry(self.groups[name], now)
        return None

    def write_group(
        self, name: str, queue: str, jobs: Sequence[NewJob], now: int, writer: int, parent: tuple[str, str] | None
    ) -> Refused | None:
        """Write a group whose name is free, and not open it; for a claim (job and token), or for a handle."""
        if parent is not None:
            row = self.rows.get(parent[0])
            if row is None or row.status is not CLAIMED or row.token != parent[1]:
                return "ClaimLostError"
            row.is_related = True
        self._number()
        self.queues.add(queue)
        rows = []
        for job in jobs:
            number = self._number()
            rows.append(Row(job, number, number, PENDING, now, job.payload))
        self.written[name] = Written(queue, rows, None if parent is None else parent[0], writer)
        return None

    def _open(self, name: str, now: int) -> None:
        written = self.written.pop(name)
        self.groups[name] = Group(name, written.queue, len(written.rows))
        for row in written.rows:
            row.group = name
            self.rows[row.new.id] = row
        if not written.rows:
            self._set_expiry(self.groups[name], now)

    def cancel_group(self, name: str, now: int) -> None:
        group = self.groups[name]
        if self.has_ended(group):
            return
        group.cancel_requested = True
        for row in self.members(name):
            if row.status is CLAIMED:
                self._move("request_cancel", row, CLAIMED)
                if not row.cancel_requested or row.is_late:
                    row.events.append(("cancel_requested", row.step, None))
                row.cancel_requested, row.is_late = True, False
            elif row.status not in FINISHED:
                self._end("cancel", row, CANCELLED, now, error=row.cancel_reason)

    def why_not_waiting(self, job_id: str, name: str) -> Refused | None:
        group = self.groups.get(name)
        if group is None:
            return "GroupNotFoundError"
        return None if group.waiter in (None, job_id) else "InvalidStateError"

    def _has_come(self, wait: Wait) -> bool:
        group = self.groups.get(wait.name) if wait.kind is WaitKind.GROUP else None
        return group is not None and self.has_ended(group)

    def _leave(self, row: Row, now: int) -> None:
        """The step of a row is over, or its row goes."""
        for group in self.groups.values():
            if group.waiter == row.new.id:
                group.waiter = None
                if self.has_ended(group):
                    self._set_expiry(group, now)

    def _member_ended(self, group: Group, now: int) -> None:
        if not self.has_ended(group):
            return
        if group.waiter is None:
            self._set_expiry(group, now)
            return
        waiter = self.rows[group.waiter]
        if waiter.wait is not None and waiter.fixed is None:
            waiter.has_come = True
            if waiter.status is SCHEDULED:
                self._move("deliver_group", waiter, PENDING)
                self._enter_early(waiter, now)

    def _set_expiry(self, group: Group, now: int) -> None:
        group.expires_ms = now + max(GROUP_LIFE_MS, SHORTEST_LIFE_MS)
        for row in self.members(group.name):
            row.expires_ms = group.expires_ms

    def _clear_expiry(self, group: Group) -> None:
        group.expires_ms = None
        for row in self.members(group.name):
            row.expires_ms = None

    # Reading

    def _in(self, queue: str, status: JobStatus) -> list[Row]:
        rows = [row for row in self.rows.values() if row.new.queue == queue and row.status is status]
        return sorted(rows, key=lambda row: row.seq)

    def count(self, queue: str, status: JobStatus) -> int:
        """A queue's counter: done and cancelled count all ever."""
        if status in (DONE, CANCELLED):
            return self.ever.get((queue, status), 0)
        return len(self._in(queue, status))

    def next_retry(self, queue: str) -> int | None:
        """When the next step is due that is tried again."""
        again = [row.due_ms for row in self._in(queue, SCHEDULED) if row.is_retry]
        return min((each for each in again if each is not None), default=None)

    def shows(self, row: Row) -> str:
        """The state that a run shows."""
        if row.status in FINISHED:
            is_good = row.status is DONE and row.verdict is Verdict.SUCCEEDED
            return "cancelled" if row.status is CANCELLED else "succeeded" if is_good else "failed"
        if row.cancel_requested:
            return "cancelling"
        return "running" if row.status is CLAIMED else "pending"

    def tally(self, queue: str) -> dict[str, int]:
        """How many runs of a queue show each state."""
        return dict(Counter(self.shows(row) for row in self._runs(queue, "")))

    def next_end(self, queue: str) -> int | None:
        """When a claim must look after a run next for its time."""
        ends = [row.end_ms() for status in (PENDING, SCHEDULED, CLAIMED) for row in self._in(queue, status)]
        return min((each for each in ends if each is not None), default=None)

    def next_due(self, queue: str, now: int) -> int | None:
        """When a claim could next succeed, or something enters the line; may be in the past."""
        moments = [row.due_ms for row in self._in(queue, SCHEDULED)]
        moments += [row.lease_until_ms for row in self._in(queue, CLAIMED) if row.owner == BARE]
        for key in self._keys(queue):
            moments.append(self._refill(queue, key, now))
        opens = self.opens(queue, now)
        if self.line(queue) and opens is not None:
            moments.append(opens)
        return min((each for each in moments if each is not None), default=None)

    def opens(self, queue: str, now: int) -> int | None:
        """When the queue's own limit and pause let something be claimed; None: no time tells."""
        own = self.limits.get((queue, None))
        if queue in self.paused:
            return None
        if own is not None and own.concurrency is not None and len(self._in(queue, CLAIMED)) >= own.concurrency:
            return None
        if own is None or own.rate is None:
            return now
        window = self._window(queue, None, own.rate, now)
        return now if len(window) < own.rate.most else window[len(window) - own.rate.most] + own.rate.window_ms

    def _refill(self, queue: str, key: str, now: int) -> int | None:
        """When a rate has room for what is parked of a key and waits for nothing else."""
        limit = self.limit_of(queue, key)
        parked = [row for row in self._in(queue, PENDING) if row.new.limit_key == key and row.parked]
        if limit is None or limit.rate is None or not parked:
            return None
        has_slot = limit.hold is HoldFor.RUN and any(row.parked == 3 for row in parked)
        if self._free(queue, key, limit) <= 0 and not has_slot:
            return None
        window = self._window(queue, key, limit.rate, now)
        too_many = 1 - self._room(queue, key, limit, now)
        if too_many <= 0:
            return now
        return window[too_many - 1] + limit.rate.window_ms if too_many <= len(window) else None


def _in_line(row: Row) -> tuple[int, int]:
    return row.priority, row.place
