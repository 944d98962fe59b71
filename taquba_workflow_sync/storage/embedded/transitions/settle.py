"""claimed -> whatever its settlement says, behind the fence."""

from __future__ import annotations

from typing import assert_never

from taquba_workflow_sync.errors import CancelRequestedError, ClaimLostError
from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.embedded.transitions.advance import _advance
from taquba_workflow_sync.storage.embedded.transitions.end import end
from taquba_workflow_sync.storage.embedded.transitions.fence import Held, row_number
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Advance,
    DeadLetter,
    Nack,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus, Verdict
from taquba_workflow_sync.storage.port.texts import clip_error


def settle(tx: Transaction, settlement: Settlement) -> None:
    """Apply one settlement to the stored row.

    Raises:
        ClaimLostError: the claim is not held any more.
        CancelRequestedError: it yields to a cancellation, and one was requested.
    """
    job_id, token, action, yields_to_cancel = settlement
    row = tx.execute(sql.FENCED, (row_number(token), job_id, token)).fetchone()
    if row is None:
        raise ClaimLostError(f"the claim of job {job_id} is not held any more: settled already, or taken over")
    held = Held._make(row)
    if held.cancel_requested and yields_to_cancel:
        raise CancelRequestedError(f"job {job_id} was asked to cancel; settle it as cancelled")
    match action:
        case Advance():
            tx.transitions.add("advance")
            _advance(tx, held, token, action)
            _record(tx, held, AttemptOutcome.CONTINUED, None)
        case Nack(error=error, delay_ms=delay_ms):
            tx.transitions.add("nack")
            due = tx.due_after(delay_ms)
            status = JobStatus.PENDING if due.due_ms is None else JobStatus.SCHEDULED
            tx.execute(sql.RETRY, (status, *due, clip_error(error), held.seq, token))
            tx.move(held.queue, JobStatus.CLAIMED, status)
            _record(tx, held, AttemptOutcome.RETRIED, error)
        case Release():
            tx.transitions.add("release")
            tx.execute(sql.RELEASE, (held.seq, token))
            tx.move(held.queue, JobStatus.CLAIMED, JobStatus.PENDING)
        case Ack(verdict=verdict, result=result, error=error):
            tx.transitions.add("ack")
            outcome = AttemptOutcome.SUCCEEDED if verdict is Verdict.SUCCEEDED else AttemptOutcome.FAILED
            _record(tx, held, outcome, error)
            end(tx, held, JobStatus.CLAIMED, JobStatus.DONE, verdict=verdict, result=result, error=error)
        case DeadLetter(error=error):
            tx.transitions.add("dead_letter")
            _record(tx, held, AttemptOutcome.DEAD, error)
            end(tx, held, JobStatus.CLAIMED, JobStatus.DEAD, error=error)
        case SettleCancelled(reason=reason):
            tx.transitions.add("settle_cancelled")
            _record(tx, held, AttemptOutcome.CANCELLED, reason)
            end(tx, held, JobStatus.CLAIMED, JobStatus.CANCELLED, error=reason)
        case _:
            assert_never(action)


def _record(tx: Transaction, held: Held, outcome: AttemptOutcome, error: str | None) -> None:
    tx.record_attempt(held.seq, held.ordinal, held.step, held.attempts, held.claimed_ms, outcome, error)
