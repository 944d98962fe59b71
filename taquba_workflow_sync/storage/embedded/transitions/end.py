"""-> done, dead or cancelled, with the notification that tells of it."""

from __future__ import annotations

import secrets
from dataclasses import replace

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.overflow import Overflow
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.embedded.transitions.enqueue import write
from taquba_workflow_sync.storage.embedded.transitions.fence import Held
from taquba_workflow_sync.storage.port.notification import notification
from taquba_workflow_sync.storage.port.retention import retention_ms
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.texts import clip_error


def end(
    tx: Transaction,
    held: Held,
    source: JobStatus,
    target: JobStatus,
    *,
    verdict: Verdict | None = None,
    result: bytes | None = None,
    error: str | None = None,
) -> str | None:
    """Finish a job, or remove it where nothing is kept; returns the id of its notification, if it has one."""
    is_run = held.run_id is not None
    if is_run and target is JobStatus.DEAD:
        verdict = Verdict.FAILED
    life = retention_ms(
        is_run=is_run,
        is_dead=target is JobStatus.DEAD,
        keep_done_ms=held.keep_done_ms,
        keep_dead_ms=held.keep_dead_ms,
    )
    tx.move(held.queue, source, target)
    if life == 0:
        tx.drop_row(held.seq, held.wide)
        if target is JobStatus.DEAD:
            tx.count(held.queue, target, -1)
        return None
    stored, wide = tx.put_overflow(held.seq, Overflow.RESULT, result, held.wide)
    expires = None if life is None else tx.now_ms + life
    termination = held.termination + is_run
    tx.execute(
        sql.FINISH,
        (target, verdict, stored, clip_error(error), wide, tx.now_ms, expires, termination, held.seq),
    )
    return notify(tx, held, target, verdict, result, error, termination) if is_run else None


def notify(
    tx: Transaction,
    held: Held,
    target: JobStatus,
    verdict: Verdict | None,
    result: bytes | None,
    error: str | None,
    termination: int,
) -> str | None:
    """Insert the notification of a run's end where a hook is registered; returns its id."""
    tx.ended_run = True
    subscription = tx.subscription(held.queue)
    if subscription is None or held.run_id is None:
        return None
    headers = held.headers
    if held.wide & 1 << Overflow.HEADERS:
        headers = str(tx.get_overflow(held.seq, Overflow.HEADERS) or "")
    job = notification(
        subscription,
        job_id=held.id,
        run_id=held.run_id,
        step=held.step,
        headers=headers or "",
        priority=held.priority,
        terminal=terminal_status(target, verdict),
        termination=termination,
        finished_ms=tx.now_ms,
        result=result,
        error=clip_error(error),
    )
    if tx.execute(sql.FIND_ID, (job.id,)).fetchone() is not None:
        # A job of the user's own may have that name; the run must end all the same.
        job = replace(job, id=f"{job.id}-{secrets.token_hex(8)}")
    tx.transitions.add("notify")
    write(tx, job)
    return job.id


def terminal_status(status: JobStatus, verdict: Verdict | None) -> str:
    """Return succeeded, failed or cancelled."""
    if status is JobStatus.CANCELLED:
        return "cancelled"
    return "succeeded" if verdict is Verdict.SUCCEEDED else "failed"
