"""- -> pending / scheduled: jobs put in, all or none; taken names answer with the job that is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from taquba_workflow_sync.errors import DuplicateJobIdError
from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.overflow import Overflow, checksum, place
from taquba_workflow_sync.storage.embedded.rows import NamedRow, NewRow
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.port.job import Inserted, NewJob
from taquba_workflow_sync.storage.port.run import KnownRun, RunName, is_new_run
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict


def insert(tx: Transaction, jobs: Sequence[NewJob]) -> list[Inserted]:
    """Insert every job whose name is free; all guards come before the first write."""
    batch = _Batch({}, {}, set())
    answers = [_admit(tx, job, batch) for job in jobs]
    for job, answer in zip(jobs, answers, strict=True):
        if answer.is_new:
            tx.transitions.add("enqueue")
            write(tx, job)
    return answers


class _Batch(NamedTuple):
    """What the jobs before in the same batch have taken."""

    runs: dict[tuple[str, str], NewJob]
    dedup: dict[tuple[str, str], str]
    ids: set[str]


def _admit(tx: Transaction, job: NewJob, batch: _Batch) -> Inserted:
    """Decide about one job without writing.

    Raises:
        DuplicateJobIdError: its id, given by the caller, is taken.
        InputMismatchError: its run id is taken by a run with another input.
    """
    queue = tx.find_queue(job.queue)
    if job.run is not None:
        first = batch.runs.get((job.queue, job.run.run_id))
        if first is not None and first.run is not None:
            is_new_run(job.run, job.queue, _known_in_batch(first, first.run), is_active=True)
            return Inserted(first.id, False)
        taken_by = None if queue is None else _holder(tx, queue, job.queue, job.run)
        if taken_by is not None:
            return Inserted(taken_by, False)
        batch.runs[job.queue, job.run.run_id] = job
    elif job.dedup_key is not None:
        holder = batch.dedup.get((job.queue, job.dedup_key))
        if holder is None and queue is not None:
            row = tx.execute(sql.FIND_DEDUP, (queue, job.dedup_key)).fetchone()
            holder = None if row is None else row[0]
        if holder is not None:
            return Inserted(holder, False)
    # A generated id meets the unique index only; looking it up first would cost every insert a read.
    if job.id_given and (job.id in batch.ids or tx.execute(sql.FIND_ID, (job.id,)).fetchone() is not None):
        raise DuplicateJobIdError(f"job id {job.id!r} exists already; choose another, or leave it out to get a new one")
    batch.ids.add(job.id)
    if job.dedup_key is not None:
        batch.dedup[job.queue, job.dedup_key] = job.id
    return Inserted(job.id, True)


def _known_in_batch(job: NewJob, run: RunName) -> KnownRun:
    return KnownRun(job.id, run.input_hash, JobStatus.PENDING, None, True)


def _holder(tx: Transaction, queue: int, queue_name: str, run: RunName) -> str | None:
    """Return the job that answers a submit of this run id; None: start a new one."""
    for statement, is_active in ((sql.FIND_ACTIVE_RUN, True), (sql.FIND_LAST_RUN, False)):
        row = tx.execute(statement, (queue, run.run_id)).fetchone()
        if row is None:
            continue
        named = NamedRow._make(row)
        is_visible = is_active or tx.now_ms < (named.finished_ms or 0) + (named.keep_done_ms or 0)
        known = KnownRun(
            job_id=named.id,
            input_hash=named.input_hash,
            status=JobStatus(named.status),
            verdict=None if named.verdict is None else Verdict(named.verdict),
            is_visible=is_visible,
        )
        return None if is_new_run(run, queue_name, known, is_active=is_active) else known.job_id
    return None


def write(tx: Transaction, job: NewJob) -> int:
    """Write one admitted job; returns its row's number."""
    queue = tx.make_queue(job.queue)
    seq = tx.next_seq()
    due_ms = job.run_at_ms if job.run_at_ms is not None and job.run_at_ms > tx.now_ms else None
    status = JobStatus.PENDING if due_ms is None else JobStatus.SCHEDULED
    payload, overflow = place(Overflow.PAYLOAD, job.payload, 0)
    headers, overflow = place(Overflow.HEADERS, job.headers, overflow)
    row = NewRow(
        seq=seq,
        id=job.id,
        queue=queue,
        status=status,
        priority=job.priority,
        place=seq,
        max_attempts=job.max_attempts,
        due_ms=due_ms,
        run_at_ms=job.run_at_ms,
        enqueued_ms=tx.now_ms,
        keep_done_ms=job.keep_done_ms,
        keep_dead_ms=job.keep_dead_ms,
        dedup_key=job.dedup_key,
        run_id=None if job.run is None else job.run.run_id,
        input_hash=None if job.run is None else job.run.input_hash,
        overflow=overflow,
        headers=headers,
        payload=payload,
        payload_crc=checksum(job.payload),
        headers_crc=checksum(job.headers),
    )
    tx.execute(sql.INSERT_JOB, row)
    if overflow:
        tx.store_overflow(seq, Overflow.PAYLOAD, job.payload, 0, overflow)
        tx.store_overflow(seq, Overflow.HEADERS, job.headers, 0, overflow)
    tx.count(queue, status, 1)
    tx.woken.add(job.queue)
    return seq
