"""What happens to jobs that no worker holds: cancel, requeue, retry, sweep; and the registration of an observer."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict

from taquba_workflow_sync.errors import InvalidStateError, JobNotFoundError
from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.claiming import claim_one
from taquba_workflow_sync.storage.embedded.settling import Held, end
from taquba_workflow_sync.storage.embedded.transaction import Part, Transaction
from taquba_workflow_sync.storage.records import (
    SWEEP_LIMIT,
    AttemptOutcome,
    Cancellation,
    CancelOutcome,
    Deaths,
    JobStatus,
    LaneClaim,
    Observer,
    Verdict,
)


def cancel(
    tx: Transaction, job_id: str, deaths: Deaths, notice: LaneClaim | None, running: frozenset[str]
) -> Cancellation:
    """Cancel a waiting job; flag a claimed one, or end it at once if its claim is dead."""
    row = tx.execute(sql.WAITING, (job_id,)).fetchone()
    if row is None:
        return Cancellation(CancelOutcome.NOT_FOUND)
    *columns, status, owner, token, lease_until_ms = row
    held = Held._make(columns)
    if status == JobStatus.CLAIMED:
        is_abandoned = token in deaths.tokens and deaths.tokens[token] == lease_until_ms
        is_dead = (owner in deaths.owners or is_abandoned) and token not in running
        if not is_dead:
            tx.transitions.add("request_cancel")
            tx.execute(sql.REQUEST_CANCEL, (held.seq,))
            return Cancellation(CancelOutcome.REQUESTED, token)
        tx.record_attempt(
            held.seq, held.ordinal, held.step, held.attempts, held.claimed_ms, AttemptOutcome.REAPED,
            "cancelled after the process that ran it died",
        )  # fmt: skip
    elif status not in (JobStatus.PENDING, JobStatus.SCHEDULED):
        return Cancellation(CancelOutcome.NOT_FOUND)
    tx.transitions.add("request_cancel" if status == JobStatus.CLAIMED else "cancel")
    told = end(tx, held, JobStatus(status), JobStatus.CANCELLED)
    notification = None
    if told is not None and notice is not None:
        notification = claim_one(tx, told, notice.queue, notice.lease_ms)
    return Cancellation(CancelOutcome.REMOVED, None, notification)


def requeue(tx: Transaction, job_id: str, *, failed_run: bool) -> None:
    """Put a dead job (or, for a retry, a run that failed by its own verdict) back in line.

    Raises:
        JobNotFoundError: there is no such job.
        InvalidStateError: it is not dead, or another life of the run is active.
    """
    row = tx.execute(sql.FIND_FINISHED, (job_id,)).fetchone()
    if row is None:
        raise JobNotFoundError(f"there is no job {job_id!r}")
    seq, queue, run_id, status, verdict, wide = row
    if status != JobStatus.DEAD and not (failed_run and verdict == Verdict.FAILED):
        raise InvalidStateError(
            f"job {job_id} is {status}{f' ({verdict})' if verdict and status == JobStatus.DONE else ''}; only "
            + ("a failed run can be retried" if failed_run else "a dead job can be requeued")
        )
    if run_id is not None and tx.execute(sql.FIND_ACTIVE_RUN, (queue, run_id)).fetchone() is not None:
        raise InvalidStateError(f"run {run_id!r} is active again under another job; job {job_id} stays {status}")
    _, wide = tx.put_part(seq, Part.RESULT, None, wide)
    tx.transitions.add("retry" if failed_run else "requeue")
    tx.execute(sql.REQUEUE, (tx.next_seq(), wide, seq))
    if status == JobStatus.DEAD:
        tx.count(queue, JobStatus.DEAD, -1)
    tx.count(queue, JobStatus.PENDING, 1)
    tx.woken.add(tx.queue_name(queue))


def sweep(tx: Transaction) -> int:
    """Remove finished rows past the retention frozen on them."""
    rows = tx.execute(sql.EXPIRED, (tx.now_ms, SWEEP_LIMIT)).fetchall()
    if rows:
        tx.transitions.add("sweep")
    for seq, queue, status, wide in rows:
        tx.drop_row(seq, wide)
        if status == JobStatus.DEAD:
            tx.count(queue, JobStatus.DEAD, -1)
    return len(rows)


def is_of_boot(connection: sqlite3.Connection, boot: int) -> bool:
    """Whether every steady due time of the store was read in this boot of the machine."""
    row = connection.execute(sql.READ_META, ("boot",)).fetchone()
    return boot != 0 and row is not None and row[0] == boot


def enter_boot(tx: Transaction, boot: int) -> None:
    """Have delays that another boot began go by the wall clock, and note this one; 0: it has no steady clock.

    All at once: half a million of them take three seconds, once after a boot.
    """
    if boot and is_of_boot(tx.connection, boot):
        return
    tx.transitions.add("enter_boot")
    tx.execute(sql.LEAVE_STEADY_CLOCK)
    if boot:
        tx.execute(sql.WRITE_META, ("boot", boot))


def _text(observer: Observer) -> str:
    return json.dumps(asdict(observer), sort_keys=True)


def is_observed(connection: sqlite3.Connection, queue: str, observer: Observer) -> bool:
    """Whether exactly this observer is registered already."""
    row = connection.execute(sql.FIND_QUEUE, (queue,)).fetchone()
    return row is not None and row[1] == _text(observer)


def observe(tx: Transaction, queue: str, observer: Observer) -> None:
    """Register who is told of the queue's terminated runs, from this commit on."""
    text = _text(observer)
    number = tx.make_queue(queue)
    tx.transitions.add("observe")
    tx.execute(sql.OBSERVE, (text, number, text))
    tx.forget_observer(number)


def has_claims(connection: sqlite3.Connection, owner: str) -> bool:
    """Whether any claim names this owner."""
    return connection.execute(sql.RUNNING_HERE, (owner,)).fetchone() is not None
