"""What a run can do besides its steps, as the floors above ask an open store for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from taquba_workflow_sync.queue.paging import page_of
from taquba_workflow_sync.storage.port.effects import Effect, Insert
from taquba_workflow_sync.storage.port.event import EventRow
from taquba_workflow_sync.storage.port.job import Inserted, NewJob
from taquba_workflow_sync.storage.port.kv import ValuePage
from taquba_workflow_sync.storage.port.limit import Limit
from taquba_workflow_sync.storage.port.memo import MemoPage, MemoScope
from taquba_workflow_sync.storage.port.schedule import (
    DueSchedule,
    Fired,
    Mark,
    NewSchedule,
    NextFiring,
    ScheduleKind,
    ScheduleView,
    Seen,
)
from taquba_workflow_sync.storage.port.signals import NewSignal, SignalOutcome, StoredSignal
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.tally import Tally
from taquba_workflow_sync.storage.port.timing import Moment
from taquba_workflow_sync.storage.port.usage import Usage


class Features(ABC):
    """The calls that belong to one feature each; an open store's handle is made of them and of its own."""

    @property
    @abstractmethod
    def store(self) -> Store:
        """The open store; checked to be open."""

    def tally(self, queue_name: str) -> Tally:
        """Return how many runs of a queue stand where."""
        return self.store.tally(queue_name)

    def events(self, job_id: str) -> list[EventRow]:
        """Return what happened to a run."""
        return self.store.events(job_id)

    def traces(self, job_id: str) -> dict[int, str]:
        """Return the tracebacks of a job's attempts, by ordinal."""
        return self.store.traces(job_id)

    def memo_put(self, job_id: str, token: str, scope: MemoScope, key: str, value: bytes) -> bytes:
        """Note a value under a claim, if nothing is noted under the key; see :class:`Memos`."""
        return self.store.memo_put(job_id, token, scope, key, value)

    def memo_get(self, job_id: str, scope: MemoScope, step: int, key: str) -> bytes | None:
        """Return what is noted, or None."""
        return self.store.memo_get(job_id, scope, step, key)

    def memo_keys(self, job_id: str, scope: MemoScope, step: int) -> list[str]:
        """Return the keys of a memo."""
        return self.store.memo_keys(job_id, scope, step)

    def memo_page(self, job_id: str, scope: MemoScope, limit: object, cursor: object) -> MemoPage:
        """Return a page of a memo, its arguments checked."""
        return self.store.memo_page(job_id, scope, *page_of(limit, cursor))

    def kv_get(self, key: str) -> bytes | None:
        """Return what a key holds, or None; see :class:`KeyValues` for this and what follows."""
        return self.store.kv_get(key)

    def kv_scan(self, prefix: str, limit: object, cursor: object, *, reverse: bool) -> ValuePage:
        """Return a page of what keys hold, its arguments checked."""
        return self.store.kv_scan(prefix, *page_of(limit, cursor), reverse=reverse)

    def kv_put(self, key: str, value: bytes, ttl_ms: int | None) -> None:
        """Have a key hold a value."""
        self.store.kv_put(key, value, ttl_ms)

    def kv_delete(self, key: str) -> bool:
        """Have a key hold nothing; whether it held something."""
        return self.store.kv_delete(key)

    def kv_compare_put(self, key: str, expected: bytes | None, value: bytes) -> bool:
        """Have a key hold a value if it holds ``expected``; whether it did."""
        return self.store.kv_compare_put(key, expected, value)

    def kv_compare_delete(self, key: str, expected: bytes) -> bool:
        """Have a key hold nothing if it holds ``expected``; whether it did."""
        return self.store.kv_compare_delete(key, expected)

    def commit_effects(self, effects: Sequence[Effect]) -> list[Inserted]:
        """Apply effects in one commit, all or none; returns what became of the jobs in them."""
        store = self.store
        return store.commit_effects(effects) if effects else []

    def send_signal(self, queue_name: str, run_id: str, signal: NewSignal, submit: Insert | None) -> SignalOutcome:
        """Hand a signal to a run, which ``submit`` puts in if it is not there; see :class:`EffectCommits`."""
        return self.store.send_signal(queue_name, run_id, signal, submit)

    def signals(self, job_id: str) -> list[StoredSignal]:
        """Return what a job has not used up."""
        return self.store.signals(job_id)

    def clear_signals(self, job_id: str, name: str) -> int:
        """Remove the signals of a name that a job has now, but for the received one, in bounded commits."""
        cleared = self.store.clear_signals(job_id, name)
        many = cleared.signals
        while cleared.go_on is not None:
            cleared = self.store.clear_signals(job_id, name, cleared.go_on)
            many += cleared.signals
        return many

    def wake(self, job_id: str) -> bool:
        """Have a job that waits for a time be due now; whether it did."""
        return self.store.wake(job_id)

    def remaining_ms(self, moment: Moment) -> int:
        """Return how far away a moment of the store is."""
        return self.store.remaining_ms(moment)

    def define_schedule(self, schedule: NewSchedule, expected: int | None) -> bool:
        """Store a schedule; see :class:`Schedules` for this and the following."""
        return self.store.define_schedule(schedule, expected)

    def drop_schedule(self, queue_name: str, name: str) -> bool:
        """Remove a schedule."""
        return self.store.drop_schedule(queue_name, name)

    def move_schedule(self, queue_name: str, name: str, seen: Seen, mark: Mark, *, is_paused: bool) -> bool:
        """Pause a schedule, or have it go on."""
        return self.store.move_schedule(queue_name, name, seen, mark, is_paused=is_paused)

    def fire(
        self, queue_name: str, name: str, seen: Seen, jobs: Sequence[NewJob], mark: Mark | None, *, skips_active: bool
    ) -> Fired | None:
        """Submit runs of a schedule and move its mark, in one commit."""
        return self.store.fire(queue_name, name, seen, jobs, mark, skips_active=skips_active)

    def find_schedules(
        self, queue_name: str, *, name: str | None = None, after: str = "", limit: int = 1
    ) -> ScheduleView:
        """Return a schedule, or a piece of the list."""
        return self.store.find_schedules(queue_name, name=name, after=after, limit=limit)

    def next_firing(self, queue_name: str, kind: ScheduleKind) -> NextFiring | None:
        """Return what to wait for of a queue's schedules."""
        return self.store.next_firing(queue_name, kind)

    def due_schedules(
        self, queue_name: str, kind: ScheduleKind, after: DueSchedule | None, limit: int
    ) -> list[DueSchedule]:
        """Return the schedules that are to be looked at."""
        return self.store.due_schedules(queue_name, kind, after, limit)

    def set_limit(self, queue_name: str, limit: Limit) -> None:
        """Set a limit of a queue; on return what was in line above it is parked, and what it lets in is in line."""
        self.store.set_limit(queue_name, limit)
        self._settle_limits(queue_name)

    def clear_limit(self, queue_name: str, pattern: str | None) -> None:
        """Remove a limit of a queue; on return what it has parked is in line, as far as others let it."""
        self.store.clear_limit(queue_name, pattern)
        self._settle_limits(queue_name)

    def _settle_limits(self, queue_name: str) -> None:
        while self.store.settle_limits(queue_name):
            pass

    def limits(self, queue_name: str) -> list[Limit]:
        """Return the limits of a queue."""
        return self.store.limits(queue_name)

    def limit_usage(self, queue_name: str) -> list[Usage]:
        """Return what there is under the limits of a queue."""
        return self.store.limit_usage(queue_name)

    def pause(self, queue_name: str, *, is_paused: bool) -> None:
        """Have nothing new be claimed from a queue, or have it claimed again."""
        self.store.pause(queue_name, is_paused=is_paused)

    def is_paused(self, queue_name: str) -> bool:
        """Whether a queue is paused."""
        return self.store.is_paused(queue_name)

    def put_graph(self, queue_name: str, text: str) -> None:
        """Have a queue's graph be this."""
        self.store.put_graph(queue_name, text)

    def graphs(self) -> dict[str, str]:
        """Return the graphs by their queues."""
        return self.store.graphs()
