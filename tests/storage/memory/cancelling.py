"""pending / scheduled -> cancelled; claimed: asked to, or ended where it is abandoned."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from taquba_workflow_sync.storage.port.cancellation import Cancellation, CancelOutcome
from taquba_workflow_sync.storage.port.claim import LaneClaim
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus
from tests.storage.memory.claims import claim_row
from tests.storage.memory.ending import end
from tests.storage.memory.presence import why_abandoned
from tests.storage.memory.transaction import Transaction


def cancel(
    tx: Transaction,
    job_id: str,
    abandoned: Abandoned | None,
    never_reap: Collection[str],
    deliver: LaneClaim | None,
) -> Cancellation:
    """Cancel a job, or ask its claim to stop."""
    row = tx.state.rows.get(job_id)
    if row is None or row.finished_ms is not None:
        return Cancellation(CancelOutcome.NOT_FOUND)
    if row.held is not None:
        why = why_abandoned(row, abandoned, never_reap)
        if why is None:
            tx.put(replace(row, cancel_requested=True))
            return Cancellation(CancelOutcome.REQUESTED, row.held.token)
        row = tx.with_attempt(row, AttemptOutcome.REAPED, f"cancelled: {why}")
    notification = end(tx, row, JobStatus.CANCELLED)
    if notification is None or deliver is None:
        return Cancellation(CancelOutcome.REMOVED)
    return Cancellation(CancelOutcome.REMOVED, None, claim_row(tx, notification, tx.owner, deliver.lease_ms))
