"""What a store tells without changing anything."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from taquba_workflow_sync.storage.port.job import AttemptRow, JobRow
from taquba_workflow_sync.storage.port.presence import RunningClaim
from taquba_workflow_sync.storage.port.reads import Counts, DueIn, Filter, NextWork, Ready, RowPage
from taquba_workflow_sync.storage.port.status import JobStatus
from tests.storage.memory.state import Row, State

_CURSOR: Final = re.compile(r"after-([0-9]{1,18})", re.ASCII)


def show(row: Row, now_ms: int, *, with_payload: bool = True) -> JobRow:
    """Return a row as the port has it."""
    return JobRow(
        id=row.id,
        queue=row.queue,
        status=row.status,
        priority=row.priority,
        step=row.step,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        cancel_requested=row.cancel_requested,
        owner=None if row.held is None else row.held.owner,
        enqueued_ms=row.enqueued_ms,
        claimed_ms=row.claimed_ms,
        lease_until_ms=None if row.held is None else row.held.lease_until_ms,
        run_at_ms=row.run_at_ms,
        finished_ms=row.finished_ms,
        verdict=row.verdict,
        last_error=row.last_error,
        dedup_key=row.dedup_key,
        run_id=row.run_id,
        termination=row.termination,
        headers=row.headers,
        payload=row.payload if with_payload else b"",
        result=row.result if with_payload else None,
        is_visible=row.is_visible(now_ms),
    )


def get(state: State, now_ms: int, job_id: str, *, with_payload: bool) -> JobRow | None:
    """Return a job by id."""
    row = state.rows.get(job_id)
    return None if row is None else show(row, now_ms, with_payload=with_payload)


def find_run(state: State, now_ms: int, queue: str, run_id: str) -> JobRow | None:
    """Return the active row of a run id, else its newest."""
    lives = [row for row in state.of_queue(queue) if row.run_id == run_id]
    if not lives:
        return None
    return show(max(lives, key=lambda row: (row.finished_ms is None, row.number)), now_ms, with_payload=False)


def page(state: State, now_ms: int, queue: str, which: Filter, limit: int, cursor: str | None) -> RowPage:
    """Return a page in the order the rows were put in."""
    after = 0 if cursor is None else _number_of(cursor)
    found = [row for row in state.of_queue(queue) if row.number > after and _lets_through(which, row, now_ms)]
    rows = found[:limit]
    next_cursor = f"after-{rows[-1].number}" if len(found) > limit else None
    return RowPage([show(row, now_ms) for row in rows], next_cursor)


def _number_of(cursor: str) -> int:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise ValueError(f"{cursor[:40]!r} is no cursor of this store")
    return int(match[1])


def _lets_through(which: Filter, row: Row, now_ms: int) -> bool:
    return (
        which.status in (None, row.status)
        and which.verdict in (None, row.verdict)
        and which.cancel_requested in (None, row.cancel_requested)
        and (row.is_waiting or not which.is_waiting)
        and (row.finished_ms is None or not which.is_active)
        and (row.run is not None or not which.runs_only)
        and (row.run is None or row.is_visible(now_ms) or not which.visible_only)
    )


def counts(state: State) -> dict[str, Counts]:
    """Count what is there; done and cancelled were counted when it happened."""
    return {
        queue: Counts(
            pending=len(state.of_queue(queue, JobStatus.PENDING)),
            scheduled=len(state.of_queue(queue, JobStatus.SCHEDULED)),
            claimed=len(state.of_queue(queue, JobStatus.CLAIMED)),
            done=record.done,
            dead=len(state.of_queue(queue, JobStatus.DEAD)),
            cancelled=record.cancelled,
        )
        for queue, record in sorted(state.queues.items())
    }


def history(state: State, job_id: str) -> list[AttemptRow]:
    """Return a job's ended claims in order."""
    row = state.rows.get(job_id)
    return [] if row is None else list(row.history)


def ended(state: State, job_ids: Collection[str]) -> set[str]:
    """Return which of some jobs have ended, or are not stored."""
    return {each for each in job_ids if each not in state.rows or state.rows[each].finished_ms is not None}


def next_work(state: State, now_ms: int, queue: str, *, retries_only: bool) -> NextWork:
    """Return whether a claim could succeed now, or in how long."""
    moments: list[int] = []
    for row in state.of_queue(queue):
        if row.status is JobStatus.PENDING and not retries_only:
            return Ready()
        if row.due_ms is not None and (row.attempts > 0 or not retries_only):
            moments.append(row.due_ms)
        if row.held is not None and row.held.owner is None and not retries_only:
            moments.append(row.held.lease_until_ms)
    if not moments:
        return None
    return Ready() if min(moments) <= now_ms else DueIn(min(moments) - now_ms)


def running(state: State, owner: str) -> list[RunningClaim]:
    """Return the claims that this handle's worker loops hold."""
    return [
        RunningClaim(row.id, row.held.token, row.cancel_requested)
        for row in state.rows.values()
        if row.held is not None and row.held.owner == owner
    ]
