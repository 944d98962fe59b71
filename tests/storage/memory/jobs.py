"""- -> pending / scheduled, all or none; and dead / done as failed -> pending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from taquba_workflow_sync.errors import DuplicateJobIdError, InvalidStateError, JobNotFoundError
from taquba_workflow_sync.storage.port.job import Inserted, NewJob
from taquba_workflow_sync.storage.port.run import KnownRun, RunName, is_new_run
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from tests.storage.memory.state import Row
from tests.storage.memory.transaction import Transaction
from tests.storage.memory.values import check_storable


def insert(tx: Transaction, jobs: Sequence[NewJob]) -> list[Inserted]:
    """Put in every job whose name is free; whoever is refused refuses all."""
    return [_insert_one(tx, job) for job in jobs]


def _insert_one(tx: Transaction, job: NewJob) -> Inserted:
    there = _holder(tx, job)
    if there is not None:
        return Inserted(there, False)
    if job.id in tx.state.rows:
        raise DuplicateJobIdError(f"job id {job.id!r} exists already; choose another, or leave it out to get a new one")
    write(tx, job)
    return Inserted(job.id, True)


def _holder(tx: Transaction, job: NewJob) -> str | None:
    """Return the job that answers in the place of a new one."""
    if job.run is not None:
        known = newest_of_run(tx, job.queue, job.run.run_id)
        if known is None or is_new_run(
            job.run, job.queue, _known(known, known.run or job.run, tx.now_ms), is_active=known.finished_ms is None
        ):
            return None
        return known.id
    if job.dedup_key is not None:
        for row in tx.state.of_queue(job.queue):
            if row.dedup_key == job.dedup_key:
                return row.id
    return None


def _known(row: Row, run: RunName, now_ms: int) -> KnownRun:
    return KnownRun(row.id, run.input_hash, row.status, row.verdict, row.is_visible(now_ms))


def newest_of_run(tx: Transaction, queue: str, run_id: str) -> Row | None:
    """Return the active row of a run id, else its newest."""
    lives = [row for row in tx.state.of_queue(queue) if row.run_id == run_id]
    return max(lives, key=lambda row: (row.finished_ms is None, row.number), default=None)


def write(tx: Transaction, job: NewJob) -> Row:
    """Store an admitted job."""
    check_storable(job.id, job.queue, job.headers, job.priority, job.max_attempts, job.run_at_ms, job.dedup_key)
    number = tx.next_number()
    is_later = job.run_at_ms is not None and job.run_at_ms > tx.now_ms
    row = Row(
        id=job.id,
        queue=job.queue,
        number=number,
        place=number,
        status=JobStatus.SCHEDULED if is_later else JobStatus.PENDING,
        payload=bytes(job.payload),
        headers=job.headers,
        priority=job.priority,
        max_attempts=job.max_attempts,
        keep_done_ms=job.keep_done_ms,
        keep_dead_ms=job.keep_dead_ms,
        run=job.run,
        enqueued_ms=tx.now_ms,
        run_at_ms=job.run_at_ms,
        due_ms=job.run_at_ms if is_later else None,
        dedup_key=job.dedup_key,
    )
    tx.put(row)
    return row


def requeue(tx: Transaction, job_id: str, *, failed_run: bool) -> None:
    """Put back what failed, at the back of its priority."""
    row = tx.state.rows.get(job_id)
    if row is None:
        raise JobNotFoundError(f"there is no job {job_id!r}")
    if row.status is not JobStatus.DEAD and not (failed_run and row.verdict is Verdict.FAILED):
        raise InvalidStateError(f"job {job_id} is {row.status}; only what failed can be put back")
    if row.run_id is not None:
        newest = newest_of_run(tx, row.queue, row.run_id)
        if newest is not None and newest.finished_ms is None:
            raise InvalidStateError(f"run {row.run_id!r} is active again under job {newest.id}")
    again = replace(row, status=JobStatus.PENDING, place=tx.next_number(), attempts=0, cancel_requested=False)
    tx.put(
        replace(again, run_at_ms=None, finished_ms=None, expires_ms=None, verdict=None, last_error=None, result=None)
    )
