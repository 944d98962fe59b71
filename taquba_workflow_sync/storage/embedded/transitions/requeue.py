"""dead, or done as failed -> pending."""

from __future__ import annotations

from taquba_workflow_sync.errors import InvalidStateError, JobNotFoundError
from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.overflow import Overflow
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict


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
    _, wide = tx.put_overflow(seq, Overflow.RESULT, None, wide)
    tx.transitions.add("retry" if failed_run else "requeue")
    tx.execute(sql.REQUEUE, (tx.next_seq(), wide, seq))
    if status == JobStatus.DEAD:
        tx.count(queue, JobStatus.DEAD, -1)
    tx.count(queue, JobStatus.PENDING, 1)
    tx.woken.add(tx.queue_name(queue))
