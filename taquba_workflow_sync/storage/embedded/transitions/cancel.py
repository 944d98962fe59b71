"""pending / scheduled -> cancelled; claimed: asked to."""

from __future__ import annotations

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.embedded.transitions.claim import claim_one
from taquba_workflow_sync.storage.embedded.transitions.end import end
from taquba_workflow_sync.storage.embedded.transitions.fence import Held
from taquba_workflow_sync.storage.port.cancellation import Cancellation, CancelOutcome
from taquba_workflow_sync.storage.port.claim import LaneClaim
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus


def cancel(
    tx: Transaction, job_id: str, abandoned: Abandoned, notice: LaneClaim | None, running: frozenset[str]
) -> Cancellation:
    """Cancel a waiting job; flag a claimed one, or end it at once if its claim is dead."""
    row = tx.execute(sql.WAITING, (job_id,)).fetchone()
    if row is None:
        return Cancellation(CancelOutcome.NOT_FOUND)
    *columns, status, owner, token, lease_until_ms = row
    held = Held._make(columns)
    if status == JobStatus.CLAIMED:
        is_abandoned = token in abandoned.tokens and abandoned.tokens[token] == lease_until_ms
        is_dead = (owner in abandoned.owners or is_abandoned) and token not in running
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
