"""dead, or done as failed -> pending."""

from __future__ import annotations

from taquba_workflow_sync.clock import LAST_MS
from taquba_workflow_sync.errors import InvalidStateError, JobNotFoundError
from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.port.group import Retried
from taquba_workflow_sync.storage.port.run import NameHeldError
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.wait import NEVER_MS
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.overflow import Overflow, checksum, place
from taquba_workflow_sync.storage.relational.rows import FinishedRow, StoredGroup
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import group, member, timing
from taquba_workflow_sync.storage.relational.transitions.event import note_event, note_termination
from taquba_workflow_sync.storage.relational.transitions.line import enter_line, rank_at
from taquba_workflow_sync.storage.relational.transitions.memo import discard_all
from taquba_workflow_sync.storage.relational.transitions.wait import due_again


def requeue(
    tx: Transaction, job_id: str, *, failed_run: bool, payload: bytes | None = None, clears_memo: bool = False
) -> None:
    """Put a dead job (or, for a retry, a run that failed by its own verdict) back in line.

    Raises:
        JobNotFoundError: there is no such job.
        InvalidStateError: it is not dead, or another life of the run is active, or its group is being cancelled.
    """
    row, of_group = _admit(tx, job_id, failed_run=failed_run)
    put_back(tx, row, of_group, failed_run=failed_run, payload=payload, clears_memo=clears_memo)


def retry_members(tx: Transaction, name: str, position: int) -> Retried | None:
    """Put some failed members of a group back in line; those whose name is active again are passed over.

    Raises:
        InvalidStateError: the group is being cancelled.
    """
    found = group.failed_members(tx, name, position)
    if found is None:
        return None
    _, job_ids, next_position = found
    many = 0
    for job_id in job_ids:
        try:
            row, of_group = _admit(tx, job_id, failed_run=True)
        except (InvalidStateError, JobNotFoundError):
            continue
        put_back(tx, row, of_group, failed_run=True)
        many += 1
    return Retried(many, next_position)


def _admit(tx: Transaction, job_id: str, *, failed_run: bool) -> tuple[FinishedRow, StoredGroup | None]:
    """Return a row that may be put back in line, and the group it is a member of; writes nothing."""
    found = tx.execute(sql.FIND_FINISHED, (job_id,)).fetchone()
    if found is None:
        raise JobNotFoundError(f"there is no job {job_id!r}")
    row = FinishedRow._make(found)
    if row.status != JobStatus.DEAD and not (failed_run and row.verdict == Verdict.FAILED):
        verdict = f" ({row.verdict})" if row.verdict and row.status == JobStatus.DONE else ""
        raise InvalidStateError(
            f"job {job_id} is {row.status}{verdict}; only "
            + ("a failed run can be retried" if failed_run else "a dead job can be requeued")
        )
    if is_active_again(tx, row):
        raise InvalidStateError(
            f"run {row.run_id!r} is active again under another job; job {job_id} stays {row.status}"
        )
    return row, group_of(tx, row, job_id)


def is_active_again(tx: Transaction, row: FinishedRow) -> bool:
    """Whether another life of the run is active, or may be: a program's open transaction submits it."""
    if row.run_id is None:
        return False
    if tx.execute(sql.FIND_ACTIVE_RUN, (row.queue, row.run_id)).fetchone() is not None:
        return True
    try:
        if tx.take_name is not None:
            tx.take_name(tx.queue_name(row.queue), row.run_id)
    except NameHeldError:
        return True
    return False


def group_of(tx: Transaction, row: FinishedRow, job_id: str) -> StoredGroup | None:
    """Return the group of a row that is to be put back in line, if it is a member of one; writes nothing.

    Raises:
        InvalidStateError: the group is being cancelled.
        JobNotFoundError: it is being removed.
    """
    return member.check_may_go_on(tx, row.seq, job_id) if row.belongings & Belonging.MEMBER else None


def put_back(
    tx: Transaction,
    row: FinishedRow,
    of_group: StoredGroup | None,
    *,
    failed_run: bool,
    payload: bytes | None = None,
    clears_memo: bool = False,
) -> None:
    """Put a finished row back in line; the caller has seen that it may be, and its group."""
    _, belongings = place(Overflow.RESULT, None, row.belongings)
    if belongings & Belonging.REFUSED:
        belongings &= ~Belonging.REFUSED
        tx.execute(sql.DROP_REFUSALS, (row.seq,))
    if row.limit_key is not None or row.aging_ms is not None:
        belongings |= Belonging.RANKED
    due = due_again(tx, row.seq, row.belongings)
    status = JobStatus.PENDING if due is None or due.due_ms is None else JobStatus.SCHEDULED
    statement = sql.REQUEUE
    given: tuple[object, ...] = ()
    if payload is not None:
        stored, belongings = place(Overflow.PAYLOAD, payload, belongings | Belonging.OTHER_INPUT)
        statement = sql.REQUEUE_WITH_PAYLOAD
        given = (stored, checksum(payload))
    if clears_memo:
        belongings &= ~(Belonging.STEP_MEMO | Belonging.RUN_MEMO)
    tx.transitions.add("retry" if failed_run else "requeue")
    if row.run_id is not None:
        note_termination(tx, row.seq)
        note_event(tx, row.seq, EventKind.RETRIED, _detail(payload, clears_memo=clears_memo))
        belongings |= Belonging.EVENTS
    due_ms = None if due is None else LAST_MS if due.due_ms == NEVER_MS else due.run_at_ms
    rank = rank_at(tx, row.priority, row.aging_ms, due_ms)
    tx.execute(statement, (tx.next_seq(), rank, belongings, *given, row.seq))
    if status is JobStatus.SCHEDULED and due is not None:
        tx.transitions.add("wait_again")
        tx.execute(sql.WAIT_AGAIN, (*due, row.seq))
    tx.store_overflow(row.seq, Overflow.RESULT, None, row.belongings, belongings)
    if payload is not None:
        tx.store_overflow(row.seq, Overflow.PAYLOAD, payload, row.belongings, belongings)
    if clears_memo:
        discard_all(tx, row.seq)
    timing.retry(tx, row.seq, row.queue, row.belongings)
    if row.status == JobStatus.DEAD:
        tx.count(row.queue, JobStatus.DEAD, -1)
    tx.count(row.queue, status, 1)
    tx.count_special(row.queue, row.status, row.run_id, row.cancel_requested, row.verdict, -1)
    tx.count_special(row.queue, status, row.run_id, 0, None, 1)
    tx.woken.add(tx.queue_name(row.queue))
    if status is JobStatus.PENDING:
        enter_line(tx, row.queue, row.limit_key, row.seq)
    if of_group is not None:
        member.goes_on(tx, of_group)


def _detail(payload: bytes | None, *, clears_memo: bool) -> str | None:
    said = ["with another payload"] * (payload is not None) + ["with its memos cleared"] * clears_memo
    return ", ".join(said) or None
