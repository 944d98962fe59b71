"""Everything that only reads; each function runs on a lent connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Final

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.columns import invalid
from taquba_workflow_sync.storage.embedded.overflow import Overflow
from taquba_workflow_sync.storage.embedded.repair.showing import readable, readable_attempt
from taquba_workflow_sync.storage.embedded.transaction import DueClock
from taquba_workflow_sync.storage.port.job import AttemptRow, JobRow
from taquba_workflow_sync.storage.port.presence import RunningClaim
from taquba_workflow_sync.storage.port.reads import Counts, Filter, Readiness
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict


def has_claims(connection: sqlite3.Connection, owner: str) -> bool:
    """Whether any claim names this owner."""
    return connection.execute(sql.RUNNING_HERE, (owner,)).fetchone() is not None


#: What ``sql.JOB_COLUMNS`` are.
_COLUMNS: Final = (
    "seq", "id", "queue", "status", "priority", "step", "attempts", "max_attempts", "cancel_requested", "owner",
    "enqueued_ms", "claimed_ms", "lease_until_ms", "run_at_ms", "finished_ms", "verdict", "last_error", "dedup_key",
    "run_id", "keep_done_ms", "termination", "headers", "payload", "result", "wide",
)  # fmt: skip


_LAST_ERROR: Final = _COLUMNS.index("last_error")


# Up to this many rows of one status are sorted; above, walking the queue in order meets them soon enough.
_SORT_LIMIT: Final = 10_000


_PARTS: Final = ((Overflow.HEADERS, 21), (Overflow.PAYLOAD, 22), (Overflow.RESULT, 23))


_INDEX: Final = {
    JobStatus.PENDING: "INDEXED BY taquba_job_pending",
    JobStatus.SCHEDULED: "INDEXED BY taquba_job_due",
    JobStatus.CLAIMED: "INDEXED BY taquba_job_claimed",
}


_STATUS: Final = {
    JobStatus.PENDING: "AND j.status = 'pending'",
    JobStatus.SCHEDULED: "AND j.due_ms IS NOT NULL AND j.status = 'scheduled'",
    JobStatus.CLAIMED: "AND j.lease_until_ms IS NOT NULL AND j.status = 'claimed'",
    JobStatus.DONE: "AND j.finished_ms IS NOT NULL AND j.status = 'done'",
    JobStatus.DEAD: "AND j.finished_ms IS NOT NULL AND j.status = 'dead'",
    JobStatus.CANCELLED: "AND j.finished_ms IS NOT NULL AND j.status = 'cancelled'",
}


def _job(connection: sqlite3.Connection, row: tuple[object, ...], *, whole: bool) -> JobRow:
    fields, damage = readable(_COLUMNS, row)
    seq, wide = fields[0], fields.pop()
    for part, column in _PARTS:
        if wide & 1 << part and (whole or part is Overflow.HEADERS):
            stored = connection.execute(sql.GET_OVERFLOW, (seq * 4 + part,)).fetchone()
            fields[column] = None if stored is None else stored[0]
    # What is missing or damaged reads as empty: a listing must not fail because of one row.
    if not isinstance(fields[21], str):
        fields[21] = ""
    if not isinstance(fields[22], bytes):
        fields[22] = b""
    if whole and wide & 1 << Overflow.RESULT and not isinstance(fields[23], bytes):
        fields[23], damage = None, damage or "the stored row is damaged: its result is missing or no bytes"
    if damage is not None:
        fields[_LAST_ERROR] = damage
    return JobRow._make(fields)


def _in_one_snapshot(
    connection: sqlite3.Connection, statements: Iterable[str], values: tuple[object, ...], *, whole: bool = True
) -> list[JobRow]:
    """Return what the first statement that finds anything finds."""
    # A part is one more statement: without a transaction its row could vanish between the two.
    connection.execute("BEGIN")
    try:
        for statement in statements:
            rows = connection.execute(statement, values).fetchall()
            if rows:
                return [_job(connection, row, whole=whole) for row in rows]
        return []
    finally:
        connection.execute("COMMIT")


def get(connection: sqlite3.Connection, job_id: str, *, whole: bool = True) -> JobRow | None:
    """Return a job by id."""
    return next(iter(_in_one_snapshot(connection, (sql.GET,), (job_id,), whole=whole)), None)


def find_run(connection: sqlite3.Connection, queue: str, run_id: str) -> JobRow | None:
    """Return the active row of a run id, else its newest, without large parts."""
    return next(iter(_in_one_snapshot(connection, sql.FIND_RUN, (queue, run_id), whole=False)), None)


def page(connection: sqlite3.Connection, queue: str, which: Filter, limit: int, after: int) -> list[JobRow]:
    """Return a page in the order of submission."""
    row = connection.execute(sql.FIND_QUEUE, (queue,)).fetchone()
    if row is None:
        return []
    where, values = _conditions(which)
    statement = sql.PAGE.format(index=_choose_index(connection, queue, which), where=where)
    return _in_one_snapshot(connection, (statement,), (row[0], after, *values, limit))


def _conditions(which: Filter) -> tuple[str, list[object]]:
    parts: list[str] = []
    values: list[object] = []
    if which.status is not None:
        parts.append(_STATUS[which.status])
    if which.verdict is not None:
        parts.append(f"AND j.verdict = '{which.verdict.value}'")
    if which.cancel_requested is not None:
        parts.append("AND j.cancel_requested = ?")
        values.append(int(which.cancel_requested))
    if which.waiting:
        parts.append("AND j.finished_ms IS NULL AND j.status IN ('pending', 'scheduled')")
    if which.active:
        parts.append("AND j.finished_ms IS NULL")
    if which.runs_only:
        parts.append("AND j.run_id IS NOT NULL")
    if which.kept_at_ms is not None:
        parts.append("AND (j.finished_ms IS NULL OR j.finished_ms + ifnull(j.keep_done_ms, 0) > ?)")
        values.append(which.kept_at_ms)
    return " ".join(parts), values


def _choose_index(connection: sqlite3.Connection, queue: str, which: Filter) -> str:
    if which.verdict is Verdict.FAILED:
        return "INDEXED BY taquba_job_failed"
    if which.status is not None and which.status.is_finished:
        return "INDEXED BY taquba_job_finished"
    here = counts(connection).get(queue, Counts())
    active = here.pending + here.scheduled + here.claimed
    if (which.waiting or which.active) and which.runs_only and active <= _SORT_LIMIT:
        return "INDEXED BY taquba_job_active_run"
    if which.status is not None and getattr(here, which.status.value) <= _SORT_LIMIT:
        return _INDEX[which.status]
    return "INDEXED BY taquba_job_listing"


def counts(connection: sqlite3.Connection) -> dict[str, Counts]:
    """Return every queue's counters."""
    # A counter or a name that is none shows as nothing, until a transition meets it and it is counted anew.
    return {
        name: Counts(*(count if type(count) is int else 0 for count in rest))
        for name, *rest in connection.execute(sql.COUNTS)
        if type(name) is str
    }


def history(connection: sqlite3.Connection, job_id: str) -> list[AttemptRow]:
    """Return a job's ended claims in order."""
    return [AttemptRow._make(readable_attempt(row)) for row in connection.execute(sql.HISTORY, (job_id,))]


def readiness(
    connection: sqlite3.Connection,
    queue: str,
    now: Callable[[], int],
    boot_now: Callable[[], int],
    *,
    retries_only: bool,
) -> Readiness:
    """Return whether a claim could succeed now, and when one could next, by the wall clock as it stands."""
    if not retries_only and connection.execute(sql.IS_PENDING, (queue,)).fetchone() is not None:
        return Readiness(True, None)
    next_due = sql.NEXT_RETRY if retries_only else sql.NEXT_DUE
    moments: list[object] = [connection.execute(next_due, (queue, DueClock.WALL)).fetchone()[0]]
    if not retries_only:
        moments.append(connection.execute(sql.NEXT_BARE_EXPIRY, (queue,)).fetchone()[0])
    boot_clock = connection.execute(next_due, (queue, DueClock.BOOT)).fetchone()[0]
    now_ms = now()
    if type(boot_clock) is int:
        moments.append(now_ms + boot_clock - boot_now())
    first = min((moment for moment in moments if type(moment) is int), default=None)
    return Readiness(first is not None and first <= now_ms, first)


def has_expired(connection: sqlite3.Connection, now_ms: int) -> bool:
    """Whether a finished row is past its retention."""
    return connection.execute(sql.EXPIRED, (now_ms, 1)).fetchone() is not None


def running(connection: sqlite3.Connection, owner: str, *, foreign: bool) -> tuple[list[RunningClaim], bool]:
    """Return the claims that worker loops hold, this owner's or all others', and whether some were damaged."""
    statement = sql.RUNNING_ELSEWHERE if foreign else sql.RUNNING_HERE
    rows = connection.execute(statement, (owner,)).fetchall()
    sound = [row for row in rows if _is_sound_running(*row)]
    running = [RunningClaim(job, token, who, bool(flag), until, lease) for job, token, who, flag, until, lease in sound]
    return running, len(sound) < len(rows)


def _is_sound_running(job_id: object, token: object, owner: object, _: object, until: object, lease: object) -> bool:
    fits = not any(invalid(column, value) for column, value in (("id", job_id), ("token", token), ("owner", owner)))
    return fits and type(token) is str and type(until) is int and type(lease) is int
