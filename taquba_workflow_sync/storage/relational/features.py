"""What a run can do besides its steps, of an open store: each method is one transaction, or one read."""

from __future__ import annotations

from collections.abc import Sequence

from taquba_workflow_sync.storage.port.effects import Effect, Insert
from taquba_workflow_sync.storage.port.event import EventRow
from taquba_workflow_sync.storage.port.job import Inserted, NewJob
from taquba_workflow_sync.storage.port.kv import ValuePage
from taquba_workflow_sync.storage.port.limit import Limit
from taquba_workflow_sync.storage.port.memo import MemoPage, MemoScope
from taquba_workflow_sync.storage.port.progress import ProgressReport
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
from taquba_workflow_sync.storage.port.signals import Cleared, NewSignal, SignalOutcome, StoredSignal
from taquba_workflow_sync.storage.port.tally import Tally
from taquba_workflow_sync.storage.port.timing import Moment
from taquba_workflow_sync.storage.port.usage import Usage
from taquba_workflow_sync.storage.relational.events import events
from taquba_workflow_sync.storage.relational.reading import kv as read_kv
from taquba_workflow_sync.storage.relational.reading import limit as read_limit
from taquba_workflow_sync.storage.relational.reading import memo as read_memo
from taquba_workflow_sync.storage.relational.reading import schedule as read_schedule
from taquba_workflow_sync.storage.relational.reading import signals as read_signals
from taquba_workflow_sync.storage.relational.reading import timing as read_timing
from taquba_workflow_sync.storage.relational.reading import usage as read_usage
from taquba_workflow_sync.storage.relational.reading.graph import graphs
from taquba_workflow_sync.storage.relational.reading.tally import tally
from taquba_workflow_sync.storage.relational.reading_access import Reading
from taquba_workflow_sync.storage.relational.reads import Now
from taquba_workflow_sync.storage.relational.transaction import Boots
from taquba_workflow_sync.storage.relational.transitions import effects, kv, memo, schedule, signals
from taquba_workflow_sync.storage.relational.transitions import limit as limits
from taquba_workflow_sync.storage.relational.transitions.graph import put_graph
from taquba_workflow_sync.storage.relational.transitions.progress import report


class Features:
    """The methods of the port that belong to one feature each; an open store is made of them and of its own."""

    _access: Reading
    _now: Now
    _boot_clock: Boots
    _fillings: memo.Fillings

    def tally(self, queue: str) -> Tally:
        """Return how many runs stand where."""
        return self._access.read(tally, queue)

    def report_progress(self, reports: Sequence[ProgressReport]) -> None:
        """Store what steps say of how far they are."""
        self._access.write(lambda tx: report(tx, reports))

    def events(self, job_id: str) -> list[EventRow]:
        """Return what happened to a run."""
        return self._access.read(events, self._now, job_id)

    def memo_put(self, job_id: str, token: str, scope: MemoScope, key: str, value: bytes) -> bytes:
        """Write an entry once."""
        fillings = self._fillings
        stored, filling = self._access.write(
            lambda tx: memo.put(tx, job_id, token, scope, key, value, fillings), here=True
        )
        if filling is not None:
            fillings.committed(token, scope, filling)
        return stored

    def kv_get(self, key: str) -> bytes | None:
        """Return what a key holds."""
        return self._access.read(read_kv.get, self._now, key)

    def kv_scan(self, prefix: str, limit: int, cursor: str | None, *, reverse: bool) -> ValuePage:
        """Return a page of what keys hold."""
        return self._access.read(read_kv.scan, self._now, prefix, limit, cursor, reverse=reverse)

    def kv_put(self, key: str, value: bytes, ttl_ms: int | None) -> None:
        """Have a key hold a value."""
        self._access.write(lambda tx: kv.put(tx, key, value, ttl_ms))

    def kv_delete(self, key: str) -> bool:
        """Have a key hold nothing."""
        return self._access.write(lambda tx: kv.delete(tx, key))

    def kv_compare_put(self, key: str, expected: bytes | None, value: bytes) -> bool:
        """Have a key hold a value if it holds another."""
        return self._access.write(lambda tx: kv.compare_put(tx, key, expected, value))

    def kv_compare_delete(self, key: str, expected: bytes) -> bool:
        """Have a key hold nothing if it holds a value."""
        return self._access.write(lambda tx: kv.compare_delete(tx, key, expected))

    def commit_effects(self, effects_: Sequence[Effect]) -> list[Inserted]:
        """Apply effects, all or none."""
        return self._access.write(lambda tx: effects.commit(tx, effects_))

    def memo_get(self, job_id: str, scope: MemoScope, step: int, key: str) -> bytes | None:
        """Return an entry."""
        return self._access.read(read_memo.get, job_id, scope, step, key)

    def memo_keys(self, job_id: str, scope: MemoScope, step: int) -> list[str]:
        """Return the keys of a memo."""
        return self._access.read(read_memo.keys, job_id, scope, step)

    def memo_page(self, job_id: str, scope: MemoScope, limit: int, cursor: str | None) -> MemoPage:
        """Return a page of a memo."""
        return self._access.read(read_memo.page, job_id, scope, limit, cursor)

    def send_signal(self, queue: str, run_id: str, signal: NewSignal, submit: Insert | None = None) -> SignalOutcome:
        """Hand a signal to a run."""
        return self._access.write(lambda tx: effects.send_signal(tx, queue, run_id, signal, submit))

    def signals(self, job_id: str) -> list[StoredSignal]:
        """Return what a job has not used up."""
        return self._access.read(read_signals.signals, job_id)

    def clear_signals(self, job_id: str, name: str, go_on: int | None = None) -> Cleared:
        """Remove a piece of the signals of a name."""
        return self._access.write(lambda tx: signals.clear(tx, job_id, name, go_on))

    def wake(self, job_id: str) -> bool:
        """Have what waits for a time be due now."""
        return self._access.write(lambda tx: signals.wake(tx, job_id))

    def remaining_ms(self, moment: Moment) -> int:
        """Return how far away a moment is."""
        return read_timing.remaining_ms(self._now, self._boot_clock.now_ms, moment)

    def has_late(self, queue: str) -> bool:
        """Return whether a claim would find something to be done for limits."""
        return self._access.read(read_timing.has_late, self._now, queue)

    def define_schedule(self, new: NewSchedule, expected: int | None) -> bool:
        """Store a schedule."""
        return self._access.write(lambda tx: schedule.define(tx, new, expected))

    def drop_schedule(self, queue: str, name: str) -> bool:
        """Remove a schedule."""
        return self._access.write(lambda tx: schedule.drop(tx, queue, name))

    def move_schedule(self, queue: str, name: str, seen: Seen, mark: Mark, *, is_paused: bool) -> bool:
        """Pause a schedule, or have it go on."""
        return self._access.write(lambda tx: schedule.move(tx, queue, name, seen, mark, is_paused=is_paused))

    def fire(
        self, queue: str, name: str, seen: Seen, jobs: Sequence[NewJob], mark: Mark | None, *, skips_active: bool
    ) -> Fired | None:
        """Submit runs of a schedule and move its mark."""
        return self._access.write(
            lambda tx: schedule.fire(tx, queue, name, seen, jobs, mark, skips_active=skips_active)
        )

    def find_schedules(self, queue: str, *, name: str | None = None, after: str = "", limit: int = 1) -> ScheduleView:
        """Return schedules."""
        return self._access.read(read_schedule.find, self._now, queue, name, after, limit)

    def next_firing(self, queue: str, kind: ScheduleKind) -> NextFiring | None:
        """Return what to wait for."""
        return self._access.read(read_schedule.next_firing, self._now, queue, kind)

    def due_schedules(self, queue: str, kind: ScheduleKind, after: DueSchedule | None, limit: int) -> list[DueSchedule]:
        """Return the schedules that are to be looked at."""
        return self._access.read(read_schedule.due, self._now, queue, kind, after, limit)

    def set_limit(self, queue: str, limit: Limit) -> None:
        """Put a limit in the place of another."""
        self._access.write(lambda tx: limits.set_limit(tx, queue, limit))

    def clear_limit(self, queue: str, pattern: str | None) -> None:
        """Remove a limit."""
        self._access.write(lambda tx: limits.clear_limit(tx, queue, pattern))

    def settle_limits(self, queue: str) -> bool:
        """See to some of what a changed limit asks for."""
        return self._access.write(lambda tx: limits.settle_limits(tx, queue))

    def limits(self, queue: str) -> list[Limit]:
        """Return a queue's limits."""
        return self._access.read(read_limit.limits, queue)

    def limit_usage(self, queue: str) -> list[Usage]:
        """Return what there is under a queue's limits."""
        return self._access.read(read_usage.limit_usage, queue)

    def pause(self, queue: str, *, is_paused: bool) -> None:
        """Pause a queue, or resume it."""
        self._access.write(lambda tx: limits.pause(tx, queue, is_paused=is_paused))

    def is_paused(self, queue: str) -> bool:
        """Whether a queue is paused."""
        return self._access.read(read_limit.is_paused, queue)

    def put_graph(self, queue: str, text: str) -> None:
        """Have a queue's graph be this; writes only what changes."""
        if self.graphs().get(queue) != text:
            self._access.write(lambda tx: put_graph(tx, queue, text))

    def graphs(self) -> dict[str, str]:
        """Return the graphs by their queues."""
        return self._access.read(graphs)
