"""Schedules: a record each, replaced as a whole; what is to be fired is looked for among all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from taquba_workflow_sync.errors import InputMismatchError
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.schedule import (
    FAR_AHEAD_MS,
    DueSchedule,
    Fired,
    Mark,
    NewSchedule,
    NextFiring,
    ScheduleKind,
    ScheduleRow,
    ScheduleView,
    Seen,
)
from tests.storage.memory import jobs as runs
from tests.storage.memory.state import QueueRecord, ScheduleRecord, State
from tests.storage.memory.transaction import Transaction


def define(tx: Transaction, new: NewSchedule, expected: int | None) -> bool:
    """Store a definition where the one is that was expected."""
    key = new.queue, new.name
    known = tx.state.schedules.get(key)
    if (None if known is None else known.seen.revision) != expected:
        return False
    revision = tx.next_number()
    seen, next_ms = Seen(revision, new.mark.watermark_ms), new.mark.next_ms
    if known is None:
        tx.state.queues.setdefault(new.queue, QueueRecord())
        tx.state.schedules[key] = ScheduleRecord(
            kind=new.kind, definition=new.definition, payload=bytes(new.payload), defined_ms=new.defined_ms,
            seen=seen, next_ms=next_ms, number=revision,
        )  # fmt: skip
    else:
        tx.state.schedules[key] = replace(
            known, kind=new.kind, definition=new.definition, payload=bytes(new.payload), defined_ms=new.defined_ms,
            seen=seen, next_ms=next_ms,
        )  # fmt: skip
    tx.woken.add(new.queue)
    return True


def drop(tx: Transaction, queue: str, name: str) -> bool:
    """Remove a schedule."""
    return tx.state.schedules.pop((queue, name), None) is not None


def move(tx: Transaction, queue: str, name: str, seen: Seen, mark: Mark, *, is_paused: bool) -> bool:
    """Pause it, or let it go on."""
    known = tx.state.schedules.get((queue, name))
    if known is None or known.seen != seen:
        return False
    tx.state.schedules[queue, name] = replace(
        known, seen=Seen(tx.next_number(), mark.watermark_ms), next_ms=mark.next_ms, is_paused=is_paused
    )
    tx.woken.add(queue)
    return True


def fire(
    tx: Transaction, queue: str, name: str, seen: Seen, jobs: Sequence[NewJob], mark: Mark | None, *, skips_active: bool
) -> Fired | None:
    """Put in the runs, and move the mark."""
    known = tx.state.schedules.get((queue, name))
    if known is None or known.seen != seen:
        return None
    fired = Fired([], [], [])
    for job in jobs:
        assert job.run is not None
        last = None if known.last_job is None else tx.state.rows.get(known.last_job)
        if skips_active and last is not None and last.finished_ms is None:
            fired.skipped.append(job.run.run_id)
            continue
        try:
            (answer,) = runs.insert(tx, [job])
        except InputMismatchError:
            fired.taken.append(job.run.run_id)
            continue
        known = replace(known, last_run_id=job.run.run_id, last_job=answer.job_id)
        fired.runs.append(job.run.run_id)
    if mark is not None:
        known = replace(known, seen=Seen(seen.revision, mark.watermark_ms), next_ms=mark.next_ms)
    tx.state.schedules[queue, name] = known
    return fired


def find(state: State, now_ms: int, queue: str, name: str | None, after: str, limit: int) -> ScheduleView:
    """Return one, or a piece of the list."""
    names = sorted(each for of, each in state.schedules if of == queue)
    if name is None:
        wanted = [each for each in names if each > after][:limit]
    else:
        wanted = [each for each in names if each == name]
    return ScheduleView([_shown(each, state.schedules[queue, each]) for each in wanted], now_ms)


def _shown(name: str, known: ScheduleRecord) -> ScheduleRow:
    return ScheduleRow(
        name, known.kind, known.seen, known.next_ms, known.defined_ms, known.is_paused, known.last_run_id,
        known.definition, known.payload,
    )  # fmt: skip


def _waiting(state: State, queue: str, kind: ScheduleKind) -> list[tuple[int, int, str, int]]:
    return sorted(
        (known.next_ms, known.number, name, known.seen.watermark_ms)
        for (of, name), known in state.schedules.items()
        if of == queue and known.kind is kind and not known.is_paused and known.next_ms is not None
    )


def next_firing(state: State, now_ms: int, queue: str, kind: ScheduleKind) -> NextFiring | None:
    """Return what to wait for."""
    waiting = _waiting(state, queue, kind)
    if not waiting:
        return None
    later = [next_ms for next_ms, _, _, _ in waiting if next_ms > now_ms]
    is_due = len(later) < len(waiting) or any(mark > now_ms + FAR_AHEAD_MS for *_, mark in waiting)
    return NextFiring(is_due, later[0] - now_ms if later else None)


def due(
    state: State, now_ms: int, queue: str, kind: ScheduleKind, after: DueSchedule | None, limit: int
) -> list[DueSchedule]:
    """Return what is due, then what is far ahead."""
    waiting = _waiting(state, queue, kind)
    place = (-(2**63), -1) if after is None else (after.next_ms, after.number)
    found = [each for each in waiting if each[0] <= now_ms and each[:2] > place][:limit]
    found += [each for each in waiting if each[3] > now_ms + FAR_AHEAD_MS][: limit - len(found)]
    return [DueSchedule(next_ms, number, name) for next_ms, number, name, _ in found]
