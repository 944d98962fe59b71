"""- -> pending / scheduled: jobs put in, all or none; taken names answer with the job that is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from taquba_workflow_sync.errors import DuplicateJobIdError, InputMismatchError
from taquba_workflow_sync.storage.port.job import Inserted, NewJob
from taquba_workflow_sync.storage.port.run import KnownRun, RunName, is_new_run
from taquba_workflow_sync.storage.port.settlement import Ending
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import MEMBER, RANKED, SETTINGS, TIMING
from taquba_workflow_sync.storage.relational.overflow import Overflow, checksum, place
from taquba_workflow_sync.storage.relational.rows import NamedRow, NewRow
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import member, settings, timing
from taquba_workflow_sync.storage.relational.transitions.limit import check_waiting
from taquba_workflow_sync.storage.relational.transitions.line import enter_line, rank_at


def insert(tx: Transaction, jobs: Sequence[NewJob]) -> list[Inserted]:
    """Insert every job whose name is free; all guards come before the first write."""
    batch = Batch()
    answers = [admit(tx, job, batch) for job in jobs]
    for job, answer in zip(jobs, answers, strict=True):
        if answer.is_new:
            tx.transitions.add("enqueue")
            write(tx, job)
    return answers


#: In the column ``parked``.
_HELD: Final = 2


class Batch:
    """What the jobs before in the same batch have taken; ``ending``: the row that ends before they are written, with a
    job that tells of it, whose id is ``notification``."""

    def __init__(self, ending: Ending | None = None, notification: str | None = None) -> None:
        self.ending = ending
        self.notification = notification
        self.runs: dict[tuple[str, str], NewJob] = {}
        self.new: dict[tuple[str, str | None], int] = {}
        self.dedup: dict[tuple[str, str], str] = {}
        self.ids: set[str] = set()


def admit(tx: Transaction, job: NewJob, batch: Batch) -> Inserted:
    """Decide about one job without writing.

    Raises:
        DuplicateJobIdError: its id, given by the caller, is taken.
        InputMismatchError: its run id is taken by a run with another input.
        NameHeldError: another open transaction has taken its run id.
        QueueFullError: as many wait as may.
    """
    queue = tx.find_queue(job.queue)
    if job.run is not None:
        first = batch.runs.get((job.queue, job.run.run_id))
        if first is not None and first.run is not None:
            is_new_run(job.run, job.queue, _known_in_batch(first, first.run), is_active=True)
            return Inserted(first.id, False)
        taken_by = None if queue is None else _holder(tx, queue, job.queue, job.run, batch.ending)
        if taken_by is not None:
            return Inserted(taken_by, False)
        if tx.take_name is not None and job.run.run_id != job.id:  # an id of ours is nobody else's
            tx.take_name(job.queue, job.run.run_id)
        _check_waiting(tx, queue, job, batch)
        batch.runs[job.queue, job.run.run_id] = job
    elif job.dedup_key is not None:
        holder = batch.dedup.get((job.queue, job.dedup_key))
        if holder is None and queue is not None:
            row = tx.execute(sql.FIND_DEDUP, (queue, job.dedup_key)).fetchone()
            holder = None if row is None else row[0]
        if holder is not None:
            return Inserted(holder, False)
    if job.id_given and job.id == batch.notification:
        raise DuplicateJobIdError(
            f"job id {job.id!r} is that of the job which tells the hook of this run's end; choose another"
        )
    # A generated id meets the unique index only; looking it up first would cost every insert a read.
    if job.id_given and (job.id in batch.ids or tx.execute(sql.FIND_ID, (job.id,)).fetchone() is not None):
        raise DuplicateJobIdError(f"job id {job.id!r} exists already; choose another, or leave it out to get a new one")
    batch.ids.add(job.id)
    if job.dedup_key is not None:
        batch.dedup[job.queue, job.dedup_key] = job.id
    return Inserted(job.id, True)


def _check_waiting(tx: Transaction, queue: int | None, job: NewJob, batch: Batch) -> None:
    """Refuse a new run where as many wait as may, those before it in the same batch counted."""
    own, of_key = (job.queue, None), (job.queue, job.limit_key)
    if job.is_bounded and queue is not None:
        check_waiting(tx, queue, job.queue, job.limit_key, batch.new.get(own, 0), batch.new.get(of_key, 0))
    if job.run_at_ms is None or job.run_at_ms <= tx.now_ms:
        for each in {own, of_key}:
            batch.new[each] = batch.new.get(each, 0) + 1


def _known_in_batch(job: NewJob, run: RunName) -> KnownRun:
    return KnownRun(job.id, run.input_hash, JobStatus.PENDING, None, True)


def _holder(tx: Transaction, queue: int, queue_name: str, run: RunName, ending: Ending | None) -> str | None:
    """Return the job that answers a submit of this run id; None: start a new one."""
    for statement, is_active in ((sql.FIND_ACTIVE_RUN, True), (sql.FIND_LAST_RUN, False)):
        row = tx.execute(statement, (queue, run.run_id)).fetchone()
        if row is None:
            continue
        named = NamedRow._make(row)
        if ending is not None and named.id == ending.job_id:
            if is_active:
                continue
            named = named._replace(status=ending.status, verdict=ending.verdict, finished_ms=tx.now_ms)
        is_member = bool(named.belongings & MEMBER)
        if is_active and is_member and member.is_hidden(tx, named.seq):
            raise InputMismatchError(
                f"run id {run.run_id!r} of queue {queue_name!r} is taken by a member of a group that is being written"
            )
        is_visible = is_active or tx.now_ms < (named.finished_ms or 0) + (named.keep_done_ms or 0)
        is_visible = is_visible or (is_member and member.is_kept(tx, named.seq))
        known = KnownRun(
            job_id=named.id,
            input_hash=named.input_hash,
            status=JobStatus(named.status),
            verdict=None if named.verdict is None else Verdict(named.verdict),
            is_visible=is_visible,
        )
        return None if is_new_run(run, queue_name, known, is_active=is_active) else known.job_id
    return None


def write(tx: Transaction, job: NewJob, *, is_held: bool = False, owned: int = 0) -> int:
    """Write one admitted job; returns its row's number.

    ``is_held``: a member of a group that is not open; it is in no line, and counted nowhere. ``owned``: what belongs to
    it from the start.
    """
    queue = tx.make_queue(job.queue)
    seq = tx.next_seq()
    is_early = job.run_at_ms is not None and job.run_at_ms > tx.now_ms
    due_ms = job.run_at_ms if is_early and not is_held else None
    status = JobStatus.PENDING if due_ms is None else JobStatus.SCHEDULED
    payload, belongings = place(Overflow.PAYLOAD, job.payload, owned)
    headers, belongings = place(Overflow.HEADERS, job.headers, belongings)
    planned = None
    if job.settings is not None:
        planned = settings.of_first_step(job.max_attempts, job.priority, job.settings)
        belongings = settings.bits(belongings, planned)
    if job.limits is not None:
        belongings |= TIMING
    if job.limit_key is not None or job.aging_ms is not None:
        belongings |= RANKED
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
        belongings=belongings,
        headers=headers,
        payload=payload,
        payload_crc=checksum(job.payload),
        headers_crc=checksum(job.headers),
        rank=rank_at(tx, job.priority, job.aging_ms, due_ms),
        parked=_HELD if is_held else 0,
        limit_key=job.limit_key,
        aging_ms=job.aging_ms,
    )
    tx.execute(sql.INSERT_JOB, row)
    if belongings != owned:
        tx.store_overflow(seq, Overflow.PAYLOAD, job.payload, 0, belongings)
        tx.store_overflow(seq, Overflow.HEADERS, job.headers, 0, belongings)
    if planned is not None and belongings & SETTINGS:
        settings.add(tx, seq, *planned)
    if job.limits is not None:
        timing.add(tx, seq, queue, job.limits, job.run_at_ms, is_held=is_held)
    if not is_held:
        tx.count(queue, status, 1)
        if job.run is None:
            tx.count(queue, "bare_waiting", 1)
        tx.woken.add(job.queue)
        if due_ms is None:
            enter_line(tx, queue, job.limit_key, seq)
    return seq
