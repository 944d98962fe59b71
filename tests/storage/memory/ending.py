"""-> done, dead or cancelled, with the notification that tells of it."""

from __future__ import annotations

import secrets
from dataclasses import replace

from taquba_workflow_sync.storage.port.limit import Parked
from taquba_workflow_sync.storage.port.notification import encode_notification
from taquba_workflow_sync.storage.port.retention import retention_ms
from taquba_workflow_sync.storage.port.run import final_verdict, terminal_status
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.texts import readable_error, storable_error
from tests.storage.memory import groups, meters
from tests.storage.memory.jobs import write
from tests.storage.memory.limiting import leave_line
from tests.storage.memory.state import Row
from tests.storage.memory.transaction import Transaction
from tests.storage.memory.waits import over


def end(
    tx: Transaction,
    row: Row,
    target: JobStatus,
    *,
    verdict: Verdict | None = None,
    result: bytes | None = None,
    error: str | None = None,
) -> Row | None:
    """Finish a job, or remove it where nothing is kept; returns its notification, if it has one."""
    if target is JobStatus.CANCELLED and error is None:
        error = readable_error(row.cancel_reason)
    is_run = row.run is not None
    if row.held is None:
        meters.count_end(tx, row, target, verdict)
    kept_ms = retention_ms(
        is_run=is_run,
        is_dead=target is JobStatus.DEAD,
        keep_done_ms=row.keep_done_ms,
        keep_dead_ms=row.keep_dead_ms,
    )
    tx.count_end(row.queue, target)
    if kept_ms == 0:
        awaited = groups.of_waiter(tx, row) if row.held is None else None
        groups.leave(tx, row)
        tx.drop(row)
        if awaited is not None:
            groups.request_cancel(tx, awaited)
        leave_line(tx, row)
        return None
    finished = replace(
        row,
        status=target,
        held=None,
        due_ms=None,
        dedup_key=None,
        finished_ms=tx.now_ms,
        expires_ms=None if kept_ms is None or row.group is not None else tx.now_ms + kept_ms,
        verdict=final_verdict(target, verdict, is_run=is_run),
        result=None if result is None else bytes(result),
        last_error=storable_error(error),
        termination=row.termination + is_run,
        parked=Parked.NO,
    )
    is_over = verdict is Verdict.SUCCEEDED or target is JobStatus.CANCELLED
    if is_over:
        finished = over(replace(finished, step_memo=(), refusals=0))
    tx.put(finished)
    awaited = groups.of_waiter(tx, row) if row.held is None else None
    if is_over:
        groups.leave(tx, row)
    leave_line(tx, finished)
    groups.ended(tx, finished)
    finished = tx.state.rows[row.id]
    notification = _notify(tx, finished) if is_run else None
    if awaited is not None:
        groups.request_cancel(tx, awaited)
    return notification


def _notify(tx: Transaction, row: Row) -> Row | None:
    """Insert the notification of a run's end, where somebody has asked for it."""
    tx.ended.add(row.id)
    subscription = tx.state.queues[row.queue].subscription
    if subscription is None or row.run_id is None or row.finished_ms is None:
        return None
    job = encode_notification(
        subscription,
        job_id=row.id,
        run_id=row.run_id,
        step=row.step,
        headers=row.headers,
        priority=row.priority,
        status=terminal_status(row.status, row.verdict),
        termination=row.termination,
        finished_ms=row.finished_ms,
        result=row.result,
        error=row.last_error,
    )
    if job.id in tx.state.rows:  # a job of the user's own may have that name; the run must end all the same
        job = replace(job, id=f"{job.id}-{secrets.token_hex(8)}")
    return write(tx, job)
