"""-> done, dead or cancelled, with the notification that tells of it."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any, NamedTuple

from taquba_workflow_sync.storage.port.limit import Parked
from taquba_workflow_sync.storage.port.notification import encode_notification
from taquba_workflow_sync.storage.port.retention import retention_ms
from taquba_workflow_sync.storage.port.run import final_verdict, terminal_status
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus, Verdict
from taquba_workflow_sync.storage.port.texts import readable_error, storable_error
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import MEMBER, WAIT
from taquba_workflow_sync.storage.relational.data_errors import InvalidDataError
from taquba_workflow_sync.storage.relational.overflow import Overflow, checksum, place
from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import member, meter, timing, trace
from taquba_workflow_sync.storage.relational.transitions.belongings import after_step, drop, end_step
from taquba_workflow_sync.storage.relational.transitions.enqueue import write
from taquba_workflow_sync.storage.relational.transitions.fence import leave
from taquba_workflow_sync.storage.relational.transitions.line import leave_line


class Ended(NamedTuple):
    """The claim that ends with its job: by which transition, under which token, and what its history says."""

    transition: str
    token: str
    outcome: AttemptOutcome
    why: str | None
    trace: str | None = None


def end(
    tx: Transaction,
    held: Held,
    target: JobStatus,
    claim: Ended | None,
    *,
    verdict: Verdict | None = None,
    result: bytes | None = None,
    error: str | None = None,
) -> str | None:
    """Finish a job, or remove it where nothing is kept; returns the id of its notification, if it has one.

    ``claim`` None: nobody holds it, it waits; the caller has said by which transition it goes. What is cancelled
    without an ``error`` has the reason for which that was asked, if there is one.

    Raises:
        ClaimLostError: the claim is not held any more; nothing was written.
        InvalidDataError: the row that waits was not found waiting; the store is damaged.
    """
    is_run = held.run_id is not None
    is_dead = target is JobStatus.DEAD
    if target is JobStatus.CANCELLED and error is None:
        error = readable_error(held.cancel_reason)
    verdict = final_verdict(target, verdict, is_run=is_run)
    keep_ms = retention_ms(
        is_run=is_run, is_dead=is_dead, keep_done_ms=held.keep_done_ms, keep_dead_ms=held.keep_dead_ms
    )
    if keep_ms == 0:
        _go(tx, held, claim, sql.DELETE_WAITING, sql.DELETE, ())
        _count(tx, held, target, verdict, claim)
        _cascade(tx, held, claim)
        timing.end(tx, held)
        drop(tx, held.seq, held.belongings)
        tx.count(held.queue, held.status, -1)
        tx.count_special(held.queue, held.status, held.run_id, held.cancel_requested, None, -1)
        if not is_dead:
            tx.count(held.queue, target, 1)
        _leave_line(tx, held)
        return None
    stored, belongings = place(Overflow.RESULT, result, held.belongings)
    is_over = verdict is Verdict.SUCCEEDED or target is JobStatus.CANCELLED  # what has failed may be retried
    if is_over:
        belongings = after_step(belongings)
    is_member = bool(held.belongings & MEMBER)  # its retention counts from the end of its group
    expires_ms = None if keep_ms is None or is_member else tx.now_ms + keep_ms
    termination = held.termination + is_run
    values = (
        target, verdict, stored, checksum(result), storable_error(error), belongings, tx.now_ms, expires_ms, termination
    )  # fmt: skip
    _go(tx, held, claim, sql.FINISH_WAITING, sql.FINISH, values)
    _count(tx, held, target, verdict, claim)
    tx.store_overflow(held.seq, Overflow.RESULT, result, held.belongings, belongings)
    _cascade(tx, held, claim)
    if is_over:
        end_step(tx, held.seq, held.belongings)
    timing.end(tx, held)
    tx.move_row(held, target, verdict=verdict)
    if claim is not None:
        tx.record_attempt(held, claim.outcome, claim.why)
        trace.keep(tx, held, claim.trace)
    _leave_line(tx, held)
    if is_member:
        member.ended(tx, held.seq, terminal_status(target, verdict))
    return notify(tx, held, target, verdict, result, error, termination) if is_run else None


def _count(tx: Transaction, held: Held, target: JobStatus, verdict: Verdict | None, claim: Ended | None) -> None:
    """Count what no dispatcher has ended, which would have counted it."""
    if claim is None or claim.outcome is AttemptOutcome.REAPED:
        meter.count_end(tx, held, target, verdict)


def _leave_line(tx: Transaction, held: Held) -> None:
    if held.parked not in (Parked.NO, Parked.BY_GROUP) and held.status == JobStatus.PENDING:
        tx.count_parked(held.queue, -1)
    leave_line(tx, held.queue, held.limit_key)


def _go(tx: Transaction, held: Held, claim: Ended | None, waiting: str, claimed: str, values: tuple[Any, ...]) -> None:
    if claim is None:
        if tx.execute(waiting, (*values, held.seq)).rowcount != 1:
            # Nobody else writes inside this transaction: the row and what led to it disagree.
            raise InvalidDataError(f"job {held.id} waits by its status and was not found waiting; nothing was written")
    else:
        leave(tx, claim.transition, claimed, values, held, claim.token)


def _cascade(tx: Transaction, held: Held, claim: Ended | None) -> None:
    """Have the group cancelled that a row has waited for, which ends while it waits."""
    if claim is None and held.belongings & WAIT:
        member.cancel_awaited(tx, held.seq)


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
    tx.ended.add(held.id)
    subscription = tx.subscription(held.queue)
    if subscription is None or held.run_id is None:
        return None
    headers = held.headers
    if held.belongings & 1 << Overflow.HEADERS:
        headers = str(tx.get_overflow(held.seq, Overflow.HEADERS) or "")
    job = encode_notification(
        subscription,
        job_id=held.id,
        run_id=held.run_id,
        step=held.step,
        headers=headers or "",
        priority=held.priority,
        status=terminal_status(target, verdict),
        termination=termination,
        finished_ms=tx.now_ms,
        result=result,
        error=storable_error(error),
    )
    if tx.execute(sql.FIND_ID, (job.id,)).fetchone() is not None:
        # A job of the user's own may have that name; the run must end all the same.
        job = replace(job, id=f"{job.id}-{secrets.token_hex(8)}")
    tx.transitions.add("notify")
    write(tx, job)
    return job.id
