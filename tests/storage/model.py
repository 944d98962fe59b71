"""The state machine of the design as plain dicts: what the store must show after each transition.

Every status change goes through :meth:`Model._move`, which looks it up in the transition table.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Hold,
    Nack,
    Release,
    SettleCancelled,
)
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.transitions import TRANSITIONS

PENDING, SCHEDULED, CLAIMED = JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.CLAIMED
DONE, DEAD, CANCELLED = JobStatus.DONE, JobStatus.DEAD, JobStatus.CANCELLED
FINISHED: Final = (DONE, DEAD, CANCELLED)
BARE: Final = "bare"
SHORTEST_LIFE_MS: Final = 60_000
_TABLE: Final = {each.name: each for each in TRANSITIONS}

Refused = str  # the name of the error's class


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

    @property
    def run_id(self) -> str | None:
        return None if self.new.run is None else self.new.run.run_id

    def is_kept(self, now: int) -> bool:
        return self.finished_ms is None or now < self.finished_ms + (self.new.keep_done_ms or 0)


class Model:
    """What a store holds, and what each transition answers."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.ever: dict[tuple[str, JobStatus], int] = {}
        self.queues: set[str] = set()
        self.observers: dict[str, str] = {}
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

    def promote(self, queue: str, now: int) -> None:
        for row in self._in(queue, SCHEDULED):
            assert row.due_ms is not None
            if row.due_ms <= now:
                self._move("promote", row, PENDING)
                row.due_ms = None

    def promote_and_reap(
        self, queue: str, now: int, dead: Collection[str], given_up: Collection[str], never_reap: Collection[str]
    ) -> None:
        self.promote(queue, now)
        for row in self._in(queue, CLAIMED):
            assert row.lease_until_ms is not None
            expired = row.owner == BARE and row.lease_until_ms <= now
            is_abandoned = (row.owner in dead or row.token in given_up) and row.token not in never_reap
            if not (expired or is_abandoned):
                continue
            row.history.append((row.step, row.attempts, "reaped"))
            if row.cancel_requested:
                self._end("reap", row, CANCELLED, now)
            elif row.attempts >= row.new.max_attempts:
                self._end("reap", row, DEAD, now, error="out of attempts")
            else:
                self._move("reap", row, PENDING)
                row.last_error = "reaped"

    def line(self, queue: str) -> list[Row]:
        """Who is first: by priority, then by place."""
        return sorted(self._in(queue, PENDING), key=lambda row: (row.new.priority, row.place))

    def claim(self, row: Row, token: str, owner: str, until: int) -> None:
        self._move("claim", row, CLAIMED)
        row.token, row.owner, row.lease_until_ms = token, owner, until
        row.attempts += 1
        row.dedup_key = None

    def choose(self, actions: Sequence[Action], now: int) -> set[Hold]:
        """Which claims go on, of those that may: the others make room for what goes first and has none."""
        by_lanes: dict[tuple[str, ...], list[Advance]] = {}
        for action in actions:
            if isinstance(action, Advance) and action.hold is not None:
                by_lanes.setdefault(action.hold.lanes, []).append(action)
        go_on: set[Hold] = set()
        for (queue,), group in by_lanes.items():
            self.promote(queue, now)
            first = group[0].hold
            assert first is not None
            waiting = [(row.new.priority, row.place) for row in self.line(queue)][first.room :]
            for action in group:
                hold = action.hold
                assert hold is not None
                if waiting:
                    priority, place = waiting[0]
                    if action.keeps_place:
                        goes_first = (priority, place) < (hold.priority, hold.place)
                    else:
                        goes_first = priority < hold.priority + (not hold.is_within_slice)
                    if goes_first:
                        del waiting[0]
                        continue
                go_on.add(hold)
        return go_on

    def settle(
        self, job_id: str, token: str, action: Action, now: int, *, yields: bool, goes_on: bool = False
    ) -> Refused | None:
        row = self.rows.get(job_id)
        if row is None or row.status is not CLAIMED or row.token != token:
            return "ClaimLostError"
        if row.cancel_requested and yields:
            return "CancelRequestedError"
        attempt = (row.step, row.attempts)
        match action:
            case Advance(payload=payload, hold=Hold(token=next_token)) if goes_on:
                self._move("hold", row, CLAIMED)
                row.history.append((*attempt, "continued"))
                row.step, row.attempts, row.payload, row.last_error = row.step + 1, 1, payload, None
                row.token = next_token
                return "held"
            case Advance(payload=payload, delay_ms=delay, keeps_place=keeps):
                self._move("advance", row, SCHEDULED if delay else PENDING)
                row.history.append((*attempt, "continued"))
                row.due_ms = now + delay if delay else None
                row.step, row.attempts, row.payload, row.last_error = row.step + 1, 0, payload, None
                if not keeps:
                    row.place = self._number()
            case Nack(error=error, delay_ms=delay):
                self._move("nack", row, SCHEDULED if delay else PENDING)
                row.history.append((*attempt, "retried"))
                row.due_ms = now + delay if delay else None
                row.last_error = error
            case Release():
                self._move("release", row, PENDING)
                row.attempts -= 1
            case Ack(verdict=verdict, result=result, error=error):
                row.history.append((*attempt, verdict.value))
                self._end("ack", row, DONE, now, verdict=verdict, result=result, error=error)
            case DeadLetter(error=error):
                row.history.append((*attempt, "dead"))
                self._end("dead_letter", row, DEAD, now, error=error)
            case SettleCancelled(reason=reason):
                row.history.append((*attempt, "cancelled"))
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
        if life == 0:
            self._move(name, row, None)
            return
        self._move(name, row, target)
        row.finished_ms, row.result, row.last_error = now, result, error
        row.expires_ms = None if life is None else now + life
        row.verdict = Verdict.FAILED if target is DEAD and row.run_id is not None else verdict
        if row.run_id is not None:
            row.termination += 1
            lane = self.observers.get(row.new.queue)
            if lane is not None:
                note = NewJob(f"{row.new.id}-{row.termination}", lane, result or b"", priority=row.new.priority)
                self._write(note, now)

    def cancel(self, job_id: str, now: int, dead: Collection[str], never_reap: Collection[str]) -> str:
        row = self.rows.get(job_id)
        if row is None or row.status in FINISHED:
            return "not_found"
        if row.status is CLAIMED:
            if row.owner in dead and row.token not in never_reap:
                row.history.append((row.step, row.attempts, "reaped"))
                self._end("request_cancel", row, CANCELLED, now)
                return "removed"
            self._move("request_cancel", row, CLAIMED)
            row.cancel_requested = True
            return "requested"
        self._end("cancel", row, CANCELLED, now)
        return "removed"

    def requeue(self, job_id: str, *, failed_run: bool) -> Refused | None:
        row = self.rows.get(job_id)
        if row is None:
            return "JobNotFoundError"
        if row.status is not DEAD and not (failed_run and row.verdict is Verdict.FAILED):
            return "InvalidStateError"
        for other in self.rows.values():
            named = row.run_id is not None and (other.run_id, other.new.queue) == (row.run_id, row.new.queue)
            if named and other.status not in FINISHED:
                return "InvalidStateError"
        self._move("retry" if failed_run else "requeue", row, PENDING)
        row.place, row.attempts, row.cancel_requested = self._number(), 0, False
        row.finished_ms = row.expires_ms = row.verdict = row.last_error = row.result = None
        return None

    def unsubscribe(self, queue: str, drop_from: str | None) -> int:
        self.observers.pop(queue, None)
        waiting = [] if drop_from is None else [*self._in(drop_from, PENDING), *self._in(drop_from, SCHEDULED)]
        for row in waiting:
            self._move("drop", row, None)
        return len(waiting)

    def sweep(self, now: int) -> int:
        over = [row for row in self.rows.values() if row.expires_ms is not None and row.expires_ms <= now]
        for row in over:
            self._move("sweep", row, None)
        return len(over)

    def renew(self, tokens: set[str], until: int) -> set[str]:
        renewed = set()
        for row in self.rows.values():
            if row.status is CLAIMED and row.token in tokens:
                self._move("renew", row, CLAIMED)
                row.lease_until_ms = until
                renewed.add(str(row.token))
        return renewed

    # Reading

    def _in(self, queue: str, status: JobStatus) -> list[Row]:
        rows = [row for row in self.rows.values() if row.new.queue == queue and row.status is status]
        return sorted(rows, key=lambda row: row.seq)

    def count(self, queue: str, status: JobStatus) -> int:
        """A queue's counter: done and cancelled count all ever."""
        if status in (DONE, CANCELLED):
            return self.ever.get((queue, status), 0)
        return len(self._in(queue, status))

    def next_due(self, queue: str) -> int | None:
        """When a claim could next succeed, of a queue with nothing pending."""
        moments = [row.due_ms for row in self._in(queue, SCHEDULED)]
        moments += [row.lease_until_ms for row in self._in(queue, CLAIMED) if row.owner == BARE]
        return min((each for each in moments if each is not None), default=None)
