"""- -> pending / scheduled, all or none; and dead / done as failed -> pending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from taquba_workflow_sync.errors import DuplicateJobIdError, InvalidStateError, JobNotFoundError
from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.port.group import Retried
from taquba_workflow_sync.storage.port.job import Inserted, NewJob
from taquba_workflow_sync.storage.port.run import KnownRun, RunName, is_new_run
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.texts import readable_error
from taquba_workflow_sync.storage.port.timing import after_retry, ends_of
from tests.storage.memory import groups, settings
from tests.storage.memory.events import note
from tests.storage.memory.limiting import check_waiting, enter_line, entered
from tests.storage.memory.state import NO_ENDS, Row
from tests.storage.memory.transaction import Transaction
from tests.storage.memory.values import check_storable
from tests.storage.memory.waits import is_open


def insert(tx: Transaction, jobs: Sequence[NewJob]) -> list[Inserted]:
    """Put in every job whose name is free; whoever is refused refuses all."""
    return [_insert_one(tx, job) for job in jobs]


def _insert_one(tx: Transaction, job: NewJob) -> Inserted:
    there = _holder(tx, job)
    if there is not None:
        return Inserted(there, False)
    if job.id in tx.state.rows:
        raise DuplicateJobIdError(f"job id {job.id!r} exists already; choose another, or leave it out to get a new one")
    if job.is_bounded:
        check_waiting(tx, job)
    write(tx, job)
    return Inserted(job.id, True)


def _holder(tx: Transaction, job: NewJob) -> str | None:
    """Return the job that answers in the place of a new one."""
    if job.run is not None:
        known = newest_of_run(tx, job.queue, job.run.run_id, with_held=True)
        groups.check_name(tx, known)
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


def newest_of_run(tx: Transaction, queue: str, run_id: str, *, with_held: bool = False) -> Row | None:
    """Return the active row of a run id, else its newest."""
    lives = [row for row in tx.state.of_queue(queue, with_held=with_held) if row.run_id == run_id]
    return max(lives, key=lambda row: (row.finished_ms is None, row.number), default=None)


def write(tx: Transaction, job: NewJob, *, is_held: bool = False) -> Row:
    """Store an admitted job; ``is_held``: in no line, as a member of a group that is not open."""
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
        limits=job.limits,
        ends=NO_ENDS if job.limits is None else ends_of(job.limits, tx.now_ms, job.run_at_ms),
        **settings.of_first_step(job),
        limit_key=job.limit_key,
        aging_ms=job.aging_ms,
        is_held=is_held,
    )
    tx.put(entered(tx, row, at_ms=None if is_held else row.due_ms))
    if not is_held:
        enter_line(tx, row.id)
    return tx.state.rows[row.id]


def requeue(
    tx: Transaction, job_id: str, *, failed_run: bool, payload: bytes | None = None, clears_memo: bool = False
) -> None:
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
    groups.check_may_go_on(tx, row)
    if row.finished_ms is not None:
        error = readable_error(row.last_error)
        row = note(row, row.finished_ms, EventKind.TERMINATED, outcome="failed", error=error)
    said = ["with another payload"] * (payload is not None) + ["with its memos cleared"] * clears_memo
    row = note(row, tx.now_ms, EventKind.RETRIED, detail=", ".join(said) or None)
    if payload is not None:
        row = replace(row, payload=bytes(payload))
    if clears_memo:
        row = replace(row, step_memo=(), run_memo=())
    if row.limits is not None:
        row = replace(row, ends=after_retry(tx.now_ms, row.ends, row.limits.deadline_after_ms), is_late=False)
    row = replace(row, cancel_requested=False, cancel_reason=None)
    again = replace(row, status=JobStatus.PENDING, place=tx.next_number(), attempts=0, refusals=0)
    again = replace(
        again, run_at_ms=None, finished_ms=None, expires_ms=None, verdict=None, last_error=None, result=None
    )
    if is_open(row):
        again = groups.waits_again(tx, again)
    tx.put(entered(tx, again, at_ms=again.due_ms))
    enter_line(tx, job_id)
    groups.goes_on(tx, row)


def retry_members(tx: Transaction, name: str, position: int) -> Retried | None:
    """Put back some failed members of a group."""
    found = groups.failed_members(tx, name, position)
    if found is None:
        return None
    many = 0
    for job_id in found[0]:
        before = tx.state.copy()
        try:
            requeue(tx, job_id, failed_run=True)
            many += 1
        except InvalidStateError:
            tx.state = before
    return Retried(many, found[1])
