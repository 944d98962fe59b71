"""claimed -> whatever its settlement says, through the door."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from taquba_workflow_sync.errors import CancelRequestedError
from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.overflow import INLINE_BYTES
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.embedded.transitions.advance import advance, advance_many
from taquba_workflow_sync.storage.embedded.transitions.end import Ended, end
from taquba_workflow_sync.storage.embedded.transitions.fence import leave, read_held
from taquba_workflow_sync.storage.embedded.transitions.finish import finish_many, is_plain_end
from taquba_workflow_sync.storage.embedded.transitions.hold import hold, hold_many
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Advance,
    DeadLetter,
    Nack,
    Ongoing,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus, Verdict
from taquba_workflow_sync.storage.port.texts import storable_error


def settle(tx: Transaction, settlement: Settlement) -> Ongoing | None:
    """Apply one settlement to the stored row; one that may hold its claim lets go of it, or has held it before.

    Raises:
        ClaimLostError: the claim is not held any more.
        CancelRequestedError: it yields to a cancellation, and one was requested.
    """
    job_id, token, action, yields_to_cancel = settlement
    held = read_held(tx, job_id, token)
    leave_to_hold = settlement.leave
    if leave_to_hold is not None and held.token == leave_to_hold.token:
        return Ongoing.HELD
    # A flag that another claim of the job carries is none of this one's: the door refuses it as lost.
    if yields_to_cancel and held.cancel_requested and held.token == token:
        raise CancelRequestedError(f"job {job_id} was asked to cancel; settle it as cancelled")
    match action:
        case Advance() if token in tx.go_on and leave_to_hold is not None:
            hold(tx, held, settlement)
            return Ongoing.HELD
        case Advance():
            advance(tx, held, token, action)
        case Nack(error=error, delay_ms=delay_ms):
            due = tx.due_after(delay_ms)
            status = JobStatus.PENDING if due.due_ms is None else JobStatus.SCHEDULED
            leave(tx, "nack", sql.RETRY, (status, *due, storable_error(error)), held, token)
            tx.move(held.queue, JobStatus.CLAIMED, status)
            tx.record_attempt(held, AttemptOutcome.RETRIED, error)
        case Release():
            leave(tx, "release", sql.RELEASE, (), held, token)
            tx.move(held.queue, JobStatus.CLAIMED, JobStatus.PENDING)
        case Ack(verdict=verdict, result=result, error=error):
            outcome = AttemptOutcome.SUCCEEDED if verdict is Verdict.SUCCEEDED else AttemptOutcome.FAILED
            claim = Ended("ack", token, outcome, error)
            end(tx, held, JobStatus.DONE, claim, verdict=verdict, result=result, error=error)
        case DeadLetter(error=error):
            end(tx, held, JobStatus.DEAD, Ended("dead_letter", token, AttemptOutcome.DEAD, error), error=error)
        case SettleCancelled(reason=reason):
            claim = Ended("settle_cancelled", token, AttemptOutcome.CANCELLED, reason)
            end(tx, held, JobStatus.CANCELLED, claim, error=reason)
        case _:
            assert_never(action)
    return None


def is_plain(settlement: Settlement) -> bool:
    """Whether :func:`settle_in_bulk` may try this one."""
    action = settlement.action
    return is_plain_end(settlement) or (
        type(action) is Advance
        and settlement.yields_to_cancel
        and action.headers is None
        and not action.delay_ms
        and len(action.payload) <= INLINE_BYTES
    )


def settle_in_bulk(tx: Transaction, settlements: Sequence[Settlement]) -> dict[str, Ongoing | None]:
    """Apply all that can be of some plain settlements in few statements; returns the answers by their tokens.

    The others (refused, or of rows with large parts) are left as they were, for :func:`settle`.
    """
    chosen: list[Settlement] = []
    ends: list[Settlement] = []
    advances: list[Settlement] = []
    for each in settlements:
        if each.token not in tx.go_on:
            (ends if is_plain_end(each) else advances).append(each)
        elif each.leave is not None:
            chosen.append(each)
    # What was chosen and is not held has been refused: the single way says why, and takes no place in line for it.
    answers: dict[str, Ongoing | None] = dict.fromkeys(hold_many(tx, chosen), Ongoing.HELD)
    if ends:
        answers.update(dict.fromkeys(finish_many(tx, ends)))
    if advances:
        answers.update(dict.fromkeys(advance_many(tx, advances)))
    return answers
