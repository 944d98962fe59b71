"""What a store tells without changing anything."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from taquba_workflow_sync.storage.port.group import END_OF_GROUP
from taquba_workflow_sync.storage.port.headers import decode_headers
from taquba_workflow_sync.storage.port.job import AttemptRow, JobRow
from taquba_workflow_sync.storage.port.limit import Parked
from taquba_workflow_sync.storage.port.presence import RunningClaim
from taquba_workflow_sync.storage.port.progress import Progress
from taquba_workflow_sync.storage.port.reads import Counts, DueIn, Filter, NextWork, Ready, RowPage
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.texts import readable_error
from taquba_workflow_sync.storage.port.wait import NEVER_MS
from tests.storage.memory import groups, limiting
from tests.storage.memory.state import Row, State
from tests.storage.memory.timing import late_of, next_end

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
        wait=_open_wait(row),
        label=row.given.label,
        is_overdue=_is_overdue(row, now_ms),
        is_late=row.held is not None and late_of(row, now_ms) is not None,
        progress=_progress(row),
        limit_key=row.limit_key,
        is_parked=row.status is JobStatus.PENDING and row.parked in (Parked.FOR_SLOT, Parked.FOR_RATE),
        parent=row.parent_run or row.parent,
        children=row.children,
    )


def _open_wait(row: Row) -> tuple[str, str] | None:
    if row.waiting is None or row.waiting.ordinal is not None or row.status is not JobStatus.SCHEDULED:
        return None
    return row.waiting.wait.kind, row.waiting.wait.name


def _is_overdue(row: Row, now_ms: int) -> bool:
    timeout_ms = row.given.step_timeout_ms
    if row.held is None or row.claimed_ms is None or timeout_ms is None:
        return False
    return now_ms >= row.claimed_ms + timeout_ms


def _progress(row: Row) -> Progress | None:
    """What another claim said is not shown."""
    if row.progress is None or row.held is None:
        return None
    token, said = row.progress
    return said if token == row.held.token else None


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


def page(
    state: State, now_ms: int, queue: str, which: Filter, limit: int, cursor: str | None, *, with_payload: bool = True
) -> RowPage:
    """Return a page in the order the rows were put in, or the other way round."""
    after = None if cursor is None else _number_of(cursor)
    parents = _parents(state, which.parent)
    there = [row for row in state.of_queue(queue) if parents is None or row.parent in parents]
    if which.newest_first:
        there.reverse()
    if after is not None:
        there = [row for row in there if row.number != after and (row.number < after) is which.newest_first]
    examined = there if which.most_examined is None else there[: which.most_examined]
    found = [row for row in examined if _lets_through(which, row, now_ms)]
    rows = found[:limit]
    last = rows[-1] if len(found) > limit else examined[-1] if len(examined) < len(there) else None
    next_cursor = None if last is None else f"after-{last.number}"
    return RowPage([show(row, now_ms, with_payload=with_payload) for row in rows], next_cursor)


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
        and (which.prefix is None or (row.run_id or "").startswith(which.prefix))
        and (which.header is None or which.header in decode_headers(row.headers).items())
        and (which.failed_with is None or _has_failed_with(row, which.failed_with))
        and (which.since_ms is None or row.enqueued_ms >= which.since_ms)
        and (which.until_ms is None or row.enqueued_ms < which.until_ms)
        and (which.ended_for_ms is None or _ended_by(row, now_ms - which.ended_for_ms))
    )


def _ended_by(row: Row, moment_ms: int) -> bool:
    return row.finished_ms is not None and row.finished_ms <= moment_ms


def _has_failed_with(row: Row, text: str) -> bool:
    return row.verdict is Verdict.FAILED and text in (readable_error(row.last_error) or "")


def _parents(state: State, name: str | None) -> set[str | None] | None:
    """Return the job id of the parent called so: by that, or its newest run id."""
    if name is None:
        return None
    children = [row for row in state.rows.values() if row.parent is not None]
    if any(row.parent == name for row in children):
        return {name}
    return {max((str(row.parent) for row in children if row.parent_run == name), default="")}


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
    over: set[str] = set()
    for each in job_ids:
        if each.startswith(END_OF_GROUP):
            is_over = groups.has_ended(state, each.removeprefix(END_OF_GROUP))
        else:
            is_over = each not in state.rows or state.rows[each].finished_ms is not None
        over |= {each} if is_over else set()
    return over


def next_work(state: State, now_ms: int, queue: str, *, retries_only: bool) -> NextWork:
    """Return whether a claim could succeed now, or in how long."""
    closed_until = limiting.closed_until(state, now_ms, queue)
    moments: list[int] = [] if retries_only else limiting.refills(state, now_ms, queue)
    for row in state.of_queue(queue):
        if row.status is JobStatus.PENDING and not row.parked and not retries_only and closed_until is not None:
            if closed_until <= now_ms:
                return Ready()
            moments.append(closed_until)
        if row.due_ms is not None and row.due_ms < NEVER_MS and (row.is_retry or not retries_only):
            moments.append(row.due_ms)
        if row.held is not None and row.held.owner is None and not retries_only:
            moments.append(row.held.lease_until_ms)
    is_closed = closed_until is None or closed_until > now_ms
    if moments and is_closed:
        moments = [max(min(moments), closed_until or now_ms)]
    if not retries_only:  # a run whose time is over ends whatever may be claimed
        moments += [end_ms for row in state.of_queue(queue) if (end_ms := next_end(row)) is not None]
    if not moments:
        return None
    if is_closed:
        return DueIn(max(min(moments) - now_ms, 0))
    return Ready() if min(moments) <= now_ms else DueIn(min(moments) - now_ms)


def running(state: State, owner: str) -> list[RunningClaim]:
    """Return the claims that this handle's worker loops hold."""
    return [
        RunningClaim(row.id, row.held.token, row.cancel_requested, row.is_late)
        for row in state.rows.values()
        if row.held is not None and row.held.owner == owner
    ]
