"""pending / scheduled -> cancelled; claimed: asked to."""

from __future__ import annotations

from collections.abc import Collection

from taquba_workflow_sync.storage.port.cancellation import Cancellation, CancelOutcome
from taquba_workflow_sync.storage.port.claim import LaneClaim
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus
from taquba_workflow_sync.storage.port.texts import readable_error
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.claim import claim_one
from taquba_workflow_sync.storage.relational.transitions.end import Ended, end
from taquba_workflow_sync.storage.relational.transitions.reap import evidence_of
from taquba_workflow_sync.storage.relational.transitions.stop import request_cancel


def cancel(
    tx: Transaction,
    job_id: str,
    abandoned: Abandoned | None,
    never_reap: Collection[str],
    deliver: LaneClaim | None,
    reason: str | None = None,
) -> Cancellation:
    """Cancel a waiting job; flag a claimed one, or end it at once if its claim is abandoned."""
    row = tx.execute(sql.FIND_HELD, (job_id,)).fetchone()
    if row is None:
        return Cancellation(CancelOutcome.NOT_FOUND)
    held = Held._make(row)
    claim: Ended | None = None
    if held.status == JobStatus.CLAIMED and held.token is not None:
        if not _is_abandoned(held, abandoned, never_reap):
            request_cancel(tx, held, reason)
            return Cancellation(CancelOutcome.REQUESTED, held.token)
        why = "cancelled after the process that ran it died"
        claim = Ended("request_cancel", held.token, AttemptOutcome.REAPED, why)
    elif held.status not in (JobStatus.PENDING, JobStatus.SCHEDULED):
        return Cancellation(CancelOutcome.NOT_FOUND)
    if claim is None:
        tx.transitions.add("cancel")
    told = end(tx, held, JobStatus.CANCELLED, claim, error=readable_error(held.cancel_reason) or reason)
    notification = None
    if told is not None and deliver is not None:
        notification = claim_one(tx, told, deliver.queue, deliver.lease_ms)
    return Cancellation(CancelOutcome.REMOVED, None, notification)


def _is_abandoned(held: Held, abandoned: Abandoned | None, never_reap: Collection[str]) -> bool:
    evidence = evidence_of(abandoned)
    if evidence is None or held.token is None or held.token in never_reap:
        return False
    return held.owner in evidence.owners or evidence.tokens.get(held.token) == held.lease_until_ms
