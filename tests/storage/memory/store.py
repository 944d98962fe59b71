"""One handle on a store of dictionaries: each port method is one line, run as one commit or one look."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from taquba_workflow_sync.clock import SystemClock, clock_reader
from taquba_workflow_sync.errors import StoreClosedError
from taquba_workflow_sync.storage.port.cancellation import Cancellation
from taquba_workflow_sync.storage.port.changes import Changes, CommitListener, Leader
from taquba_workflow_sync.storage.port.claim import NOTHING_RUNS, ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.effects import Effect, Insert
from taquba_workflow_sync.storage.port.event import EventRow
from taquba_workflow_sync.storage.port.finding import Finding
from taquba_workflow_sync.storage.port.group import GroupRow, HeldBy, MemberPage, NewGroup, Progress, Retried
from taquba_workflow_sync.storage.port.job import AttemptRow, Inserted, JobRow, NewJob
from taquba_workflow_sync.storage.port.kv import ValuePage
from taquba_workflow_sync.storage.port.limit import Limit
from taquba_workflow_sync.storage.port.memo import MemoPage, MemoScope
from taquba_workflow_sync.storage.port.meter import Counting
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.operators import Piece
from taquba_workflow_sync.storage.port.presence import Abandoned, RunningClaim
from taquba_workflow_sync.storage.port.progress import ProgressReport
from taquba_workflow_sync.storage.port.reads import Counts, Filter, NextWork, RowPage
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
from taquba_workflow_sync.storage.port.settlement import Answer, Settlement
from taquba_workflow_sync.storage.port.signals import Cleared, NewSignal, SignalOutcome, StoredSignal
from taquba_workflow_sync.storage.port.store import OpenOptions, OpenStore, Store
from taquba_workflow_sync.storage.port.tally import Tally
from taquba_workflow_sync.storage.port.timing import Moment
from taquba_workflow_sync.storage.port.usage import Usage
from taquba_workflow_sync.storage.port.worker import WorkerRow, owner_name
from taquba_workflow_sync.wakeup import WakeUp
from tests.storage.memory import (
    cancelling,
    claims,
    effects,
    events,
    groups,
    holding,
    jobs,
    limiting,
    maintenance,
    memos,
    operators,
    reads,
    reap,
    schedules,
    settlements,
    signals,
    subscriptions,
    timing,
    values_by_key,
    workers,
)
from tests.storage.memory.aside import aside
from tests.storage.memory.changes import ChangeRoom
from tests.storage.memory.meter_methods import MeterMethods
from tests.storage.memory.meters import count_settled
from tests.storage.memory.places import Places
from tests.storage.memory.presence import Watcher
from tests.storage.memory.state import State
from tests.storage.memory.transaction import Transaction

_T = TypeVar("_T")


def opener() -> OpenStore:
    """Return an ``open_store`` whose stores are gone when it is."""
    places = Places()

    def open_store(address: str, options: OpenOptions) -> Store:
        return MemoryStore(places, address, options)

    return open_store


class MemoryStore(MeterMethods):
    """Implements the port. Delays go by its clock; nothing outlives the process, and no fork is seen to."""

    def __init__(self, places: Places, address: str, options: OpenOptions) -> None:
        clock = options.clock or SystemClock()
        self._places = places
        self._place = places.at(address)
        self._now = clock_reader(clock)
        self._owner = owner_name(os.getpid())
        self._watcher = Watcher(self._owner)
        self._changes = ChangeRoom(self._place, clock)
        self._is_closed = False
        aside(lambda: self._open(options))

    def _open(self, options: OpenOptions) -> None:
        place = self._place
        try:
            place.enter(self._owner, self._changes.notify, exclusive=options.is_exclusive, wait_s=options.wait_s)
        except BaseException:
            self._changes.close()
            raise
        if place.is_copy:
            self._commit(reap.take_back_all)
            place.is_copy = False

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreClosedError(f"the store at {self._place.address} was closed; open it again")

    def _write(self, change: Callable[[Transaction], _T]) -> _T:
        """Run a change on a copy of the state, and have all of it or, where it raises, nothing."""
        return aside(lambda: self._commit(change))

    def _commit(self, change: Callable[[Transaction], _T]) -> _T:
        now_ms = self._now()
        with self._place.lock:
            self._check_open()
            tx = Transaction(self._place.state, now_ms, self._owner)
            answer = change(tx)
            is_new = self._place.swap(tx.state)
            concerned = list(self._place.open_by.values()) if is_new else []
        for notify in concerned:
            notify()
        if is_new and (tx.woken or tx.ended):
            self._changes.tell(frozenset(tx.woken), frozenset(tx.ended))
        return answer

    def _state(self) -> State:
        """Return a state that no later commit changes."""
        self._check_open()
        return self._place.state

    # Transitions

    def insert(self, jobs_: Sequence[NewJob]) -> list[Inserted]:
        return self._write(lambda tx: jobs.insert(tx, jobs_))

    def settle_and_claim(
        self, settlements_: Sequence[Settlement], claims_: Sequence[ClaimRequest], counting: Counting | None = None
    ) -> tuple[list[Answer], list[ClaimedRow]]:
        def change(tx: Transaction) -> tuple[list[Answer], list[ClaimedRow]]:
            answers = settlements.settle_all(tx, settlements_)
            count_settled(tx, counting, answers)
            requests = [holding.widened(request, settlements_, answers) for request in claims_]
            return answers, [row for request in requests for row in claims.claim(tx, request)]

        written = self._write(change)
        if counting is not None:
            counting.is_stored = True
        return written

    def token_after(self, token: str) -> str:
        return secrets.token_hex(12)

    def renew(self, tokens: Collection[str], lease_ms: int) -> tuple[int, frozenset[str]]:
        return self._write(lambda tx: claims.renew(tx, tokens, lease_ms))

    def cancel(
        self,
        job_id: str,
        *,
        reason: str | None = None,
        abandoned: Abandoned | None = None,
        never_reap: Collection[str] = NOTHING_RUNS,
        deliver: LaneClaim | None = None,
    ) -> Cancellation:
        return self._write(lambda tx: cancelling.cancel(tx, job_id, abandoned, never_reap, deliver, reason))

    def requeue(
        self, job_id: str, *, failed_run: bool = False, payload: bytes | None = None, clears_memo: bool = False
    ) -> None:
        self._write(
            lambda tx: jobs.requeue(tx, job_id, failed_run=failed_run, payload=payload, clears_memo=clears_memo)
        )

    # Operators

    def tally(self, queue: str) -> Tally:
        return operators.tally(self._state(), queue)

    def cancel_some(
        self,
        queue: str,
        which: Filter,
        cursor: str | None,
        *,
        reason: str | None = None,
        abandoned: Abandoned | None = None,
        never_reap: Collection[str] = NOTHING_RUNS,
    ) -> Piece:
        return self._write(lambda tx: operators.cancel_some(tx, queue, which, cursor, reason, abandoned, never_reap))

    def retry_some(self, queue: str, which: Filter, cursor: str | None) -> Piece:
        return self._write(lambda tx: operators.retry_some(tx, queue, which, cursor))

    def remove(self, job_id: str) -> None:
        self._write(lambda tx: operators.remove(tx, job_id))

    def remove_some(self, queue: str, which: Filter, cursor: str | None) -> Piece:
        return self._write(lambda tx: operators.remove_some(tx, queue, which, cursor))

    def report_progress(self, reports: Sequence[ProgressReport]) -> None:
        self._write(lambda tx: operators.report_progress(tx, reports))

    def events(self, job_id: str) -> list[EventRow]:
        return events.events(self._state(), self._now(), job_id)

    # Memos

    def memo_put(self, job_id: str, token: str, scope: MemoScope, key: str, value: bytes) -> bytes:
        return self._write(lambda tx: memos.put(tx, job_id, token, scope, key, value))

    def memo_get(self, job_id: str, scope: MemoScope, step: int, key: str) -> bytes | None:
        return memos.entries(self._state(), job_id, scope, step).get(key)

    def memo_keys(self, job_id: str, scope: MemoScope, step: int) -> list[str]:
        return list(memos.entries(self._state(), job_id, scope, step))

    def memo_page(self, job_id: str, scope: MemoScope, limit: int, cursor: str | None) -> MemoPage:
        return memos.page(self._state(), job_id, scope, limit, cursor)

    # Values and effects

    def kv_get(self, key: str) -> bytes | None:
        found = values_by_key.look(self._state(), key, self._now())
        return None if found is None else found.value

    def kv_scan(self, prefix: str, limit: int, cursor: str | None, *, reverse: bool) -> ValuePage:
        return values_by_key.scan(self._state(), self._now(), prefix, limit, cursor, reverse=reverse)

    def kv_put(self, key: str, value: bytes, ttl_ms: int | None) -> None:
        self._write(lambda tx: values_by_key.put(tx, key, value, ttl_ms))

    def kv_delete(self, key: str) -> bool:
        return self._write(lambda tx: values_by_key.delete(tx, key))

    def kv_compare_put(self, key: str, expected: bytes | None, value: bytes) -> bool:
        return self._write(lambda tx: values_by_key.compare_put(tx, key, expected, value))

    def kv_compare_delete(self, key: str, expected: bytes) -> bool:
        return self._write(lambda tx: values_by_key.compare_delete(tx, key, expected))

    def commit_effects(self, effects_: Sequence[Effect]) -> list[Inserted]:
        return self._write(lambda tx: effects.apply(tx, effects_))

    # Signals

    def send_signal(self, queue: str, run_id: str, signal: NewSignal, submit: Insert | None = None) -> SignalOutcome:
        return self._write(lambda tx: effects.send_signal(tx, queue, run_id, signal, submit))

    def signals(self, job_id: str) -> list[StoredSignal]:
        return signals.signals(self._state(), job_id)

    def clear_signals(self, job_id: str, name: str, go_on: int | None = None) -> Cleared:
        return self._write(lambda tx: signals.clear(tx, job_id, name))

    def wake(self, job_id: str) -> bool:
        return self._write(lambda tx: signals.wake(tx, job_id))

    # Timing

    def remaining_ms(self, moment: Moment) -> int:
        return moment.ms - self._now()

    def has_late(self, queue: str) -> bool:
        return timing.has_late(self._state(), self._now(), queue)

    # Schedules

    def define_schedule(self, schedule: NewSchedule, expected: int | None) -> bool:
        return self._write(lambda tx: schedules.define(tx, schedule, expected))

    def drop_schedule(self, queue: str, name: str) -> bool:
        return self._write(lambda tx: schedules.drop(tx, queue, name))

    def move_schedule(self, queue: str, name: str, seen: Seen, mark: Mark, *, is_paused: bool) -> bool:
        return self._write(lambda tx: schedules.move(tx, queue, name, seen, mark, is_paused=is_paused))

    def fire(
        self, queue: str, name: str, seen: Seen, jobs: Sequence[NewJob], mark: Mark | None, *, skips_active: bool
    ) -> Fired | None:
        return self._write(lambda tx: schedules.fire(tx, queue, name, seen, jobs, mark, skips_active=skips_active))

    def find_schedules(self, queue: str, *, name: str | None = None, after: str = "", limit: int = 1) -> ScheduleView:
        return schedules.find(self._state(), self._now(), queue, name, after, limit)

    def next_firing(self, queue: str, kind: ScheduleKind) -> NextFiring | None:
        return schedules.next_firing(self._state(), self._now(), queue, kind)

    def due_schedules(self, queue: str, kind: ScheduleKind, after: DueSchedule | None, limit: int) -> list[DueSchedule]:
        return schedules.due(self._state(), self._now(), queue, kind, after, limit)

    # Limits

    def set_limit(self, queue: str, limit: Limit) -> None:
        self._write(lambda tx: limiting.set_limit(tx, queue, limit))

    def clear_limit(self, queue: str, pattern: str | None) -> None:
        self._write(lambda tx: limiting.clear_limit(tx, queue, pattern))

    def settle_limits(self, queue: str) -> bool:
        return self._write(lambda tx: limiting.settle_limits(tx, queue))

    def limits(self, queue: str) -> list[Limit]:
        return limiting.limits(self._state(), queue)

    def limit_usage(self, queue: str) -> list[Usage]:
        return limiting.limit_usage(self._state(), queue)

    def pause(self, queue: str, *, is_paused: bool) -> None:
        self._write(lambda tx: limiting.pause(tx, queue, is_paused=is_paused))

    def is_paused(self, queue: str) -> bool:
        record = self._state().queues.get(queue)
        return record is not None and record.is_paused

    # Groups

    def group_write(
        self, group: NewGroup, position: int, jobs: Sequence[NewJob], writer: HeldBy | None = None
    ) -> Progress:
        return self._write(lambda tx: groups.write(tx, group, position, jobs, writer))

    def group_open(self, name: str, fingerprint: bytes) -> None:
        self._write(lambda tx: groups.open_(tx, name, fingerprint))

    def group_get(self, name: str) -> GroupRow | None:
        return groups.get(self._state(), name)

    def group_members(self, name: str, limit: int, cursor: str | None) -> MemberPage | None:
        return groups.page(self._state(), self._now(), name, limit, cursor)

    def group_cancel(self, name: str) -> bool | None:
        return self._write(lambda tx: groups.cancel(tx, name))

    def group_retry(self, name: str, position: int) -> Retried | None:
        return self._write(lambda tx: jobs.retry_members(tx, name, position))

    def group_forget(self, name: str) -> bool:
        return self._write(lambda tx: groups.forget(tx, name))

    # Subscriptions

    def put_graph(self, queue: str, text: str) -> None:
        self._write(lambda tx: tx.state.graphs.update({queue: text}))

    def graphs(self) -> dict[str, str]:
        return dict(sorted(self._state().graphs.items()))

    def subscribe(self, queue: str, subscription: Subscription) -> None:
        self._write(lambda tx: subscriptions.subscribe(tx, queue, subscription))

    def unsubscribe(self, queue: str, *, drop_from: str | None = None) -> int:
        return self._write(lambda tx: subscriptions.unsubscribe(tx, queue, drop_from))

    # Reads

    def get(self, job_id: str, *, with_payload: bool = True) -> JobRow | None:
        return reads.get(self._state(), self._now(), job_id, with_payload=with_payload)

    def find_run(self, queue: str, run_id: str) -> JobRow | None:
        return reads.find_run(self._state(), self._now(), queue, run_id)

    def page(self, queue: str, which: Filter, limit: int, cursor: str | None, *, with_payload: bool = True) -> RowPage:
        return reads.page(self._state(), self._now(), queue, which, limit, cursor, with_payload=with_payload)

    def ended(self, job_ids: Collection[str]) -> set[str]:
        return reads.ended(self._state(), job_ids)

    def counts(self) -> dict[str, Counts]:
        return reads.counts(self._state())

    def history(self, job_id: str) -> list[AttemptRow]:
        return reads.history(self._state(), job_id)

    def next_work(self, queue: str, *, retries_only: bool = False) -> NextWork:
        return reads.next_work(self._state(), self._now(), queue, retries_only=retries_only)

    # Presence

    def running(self) -> list[RunningClaim]:
        return reads.running(self._state(), self._owner)

    def abandoned_claims(self, *, suspect: str | None = None, own: Collection[str] = ()) -> Abandoned:
        return self._watcher.look(self._state(), self._now(), tuple(self._place.open_by), own)

    def suspected_claims(self) -> list[str]:
        return []

    def beat(self, patience: float) -> bool | None:
        return None

    def enrol(self) -> None:
        self._write(lambda tx: tx.state.enrolled.add(self._owner))

    def workers(self) -> list[WorkerRow]:
        return workers.workers(self._state(), self._now(), tuple(self._place.open_by))

    # Changes

    def wait_for_changes(self, since: object, timeout: float, wakeup: WakeUp) -> Changes:
        self._check_open()
        return self._changes.wait(since, timeout, wakeup)

    def on_commit(self, listener: CommitListener) -> AbstractContextManager[None]:
        self._check_open()
        return self._changes.on_commit(listener)

    def lead(self, on_waiting: Callable[[], None]) -> AbstractContextManager[Leader | None]:
        self._check_open()
        return self._changes.lead()

    # Maintenance

    def sweep(self) -> int:
        return self._write(lambda tx: maintenance.sweep(tx, tuple(self._place.open_by)))

    def backup(self, address: str) -> None:
        self._places.copy(self._state(), address)

    def backup_file(self, path: str) -> None:
        self._places.copy(self._state(), path)

    def examine(self) -> list[Finding]:
        return [Finding("engine", "a test double of dictionaries")]

    def check(self) -> list[str]:
        return maintenance.check(self._state())

    def unreadable(self) -> list[str]:
        return []

    def close(self) -> None:
        aside(self._close)

    def _close(self) -> None:
        with self._place.lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._place.leave(self._owner)
        self._changes.close()
