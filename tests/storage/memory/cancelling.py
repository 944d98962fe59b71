"""pending / scheduled -> cancelled; claimed: asked to, or ended where it is abandoned."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from taquba_workflow_sync.storage.port.cancellation import Cancellation, CancelOutcome
from taquba_workflow_sync.storage.port.claim import LaneClaim
from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus
from taquba_workflow_sync.storage.port.texts import readable_error, storable_error
from tests.storage.memory.claims import claim_row
from tests.storage.memory.ending import end
from tests.storage.memory.events import note
from tests.storage.memory.presence import why_abandoned
from tests.storage.memory.transaction import Transaction


def cancel(
    tx: Transaction,
    job_id: str,
    abandoned: Abandoned | None,
    never_reap: Collection[str],
    deliver: LaneClaim | None,
    reason: str | None = None,
) -> Cancellation:
    """Cancel a job, or ask its claim to stop."""
    row = tx.state.rows.get(job_id)
    if row is None or row.finished_ms is not None:
        return Cancellation(CancelOutcome.NOT_FOUND)
    if row.held is not None:
        why = why_abandoned(row, abandoned, never_reap)
        if why is None:
            token = row.held.token
            if not row.cancel_requested or row.is_late:  # what was asked for its deadline alone was never told
                row = note(row, tx.now_ms, EventKind.CANCEL_REQUESTED, detail=reason)
            reason = row.cancel_reason or storable_error(reason)
            tx.put(replace(row, cancel_requested=True, is_late=False, cancel_reason=reason))
            return Cancellation(CancelOutcome.REQUESTED, token)
        row = tx.with_attempt(row, AttemptOutcome.REAPED, f"cancelled: {why}")
    notification = end(tx, row, JobStatus.CANCELLED, error=readable_error(row.cancel_reason) or reason)
    if notification is None or deliver is None:
        return Cancellation(CancelOutcome.REMOVED)
    return Cancellation(CancelOutcome.REMOVED, None, claim_row(tx, notification, tx.owner, deliver.lease_ms))
