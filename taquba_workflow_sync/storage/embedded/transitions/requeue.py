"""dead, or done as failed -> pending."""

from __future__ import annotations

from taquba_workflow_sync.errors import InvalidStateError, JobNotFoundError
from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.overflow import Overflow, place
from taquba_workflow_sync.storage.embedded.rows import FinishedRow
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict


def requeue(tx: Transaction, job_id: str, *, failed_run: bool) -> None:
    """Put a dead job (or, for a retry, a run that failed by its own verdict) back in line.

    Raises:
        JobNotFoundError: there is no such job.
        InvalidStateError: it is not dead, or another life of the run is active.
    """
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
    if row.run_id is not None and tx.execute(sql.FIND_ACTIVE_RUN, (row.queue, row.run_id)).fetchone() is not None:
        raise InvalidStateError(
            f"run {row.run_id!r} is active again under another job; job {job_id} stays {row.status}"
        )
    _, overflow = place(Overflow.RESULT, None, row.overflow)
    tx.transitions.add("retry" if failed_run else "requeue")
    tx.execute(sql.REQUEUE, (tx.next_seq(), overflow, row.seq))
    tx.store_overflow(row.seq, Overflow.RESULT, None, row.overflow, overflow)
    if row.status == JobStatus.DEAD:
        tx.count(row.queue, JobStatus.DEAD, -1)
    tx.count(row.queue, JobStatus.PENDING, 1)
    tx.woken.add(tx.queue_name(row.queue))
