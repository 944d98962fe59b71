"""claimed -> whatever its settlement says, through the door."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import assert_never

from taquba_workflow_sync.errors import CancelRequestedError
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Advance,
    DeadLetter,
    Nack,
    Ongoing,
    PutBack,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus, Verdict
from taquba_workflow_sync.storage.port.texts import storable_error
from taquba_workflow_sync.storage.port.timing import LimitPassedError, Overrun
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import RANKED, Belonging
from taquba_workflow_sync.storage.relational.overflow import INLINE_BYTES
from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.transaction import DueClock, Transaction
from taquba_workflow_sync.storage.relational.transitions import effects, settings, timing, trace
from taquba_workflow_sync.storage.relational.transitions.advance import advance, advance_many
from taquba_workflow_sync.storage.relational.transitions.end import Ended, end
from taquba_workflow_sync.storage.relational.transitions.event import forget_claim
from taquba_workflow_sync.storage.relational.transitions.fence import check_held, leave, read_held
from taquba_workflow_sync.storage.relational.transitions.finish import finish_many, is_plain_end
from taquba_workflow_sync.storage.relational.transitions.hold import hold, hold_many
from taquba_workflow_sync.storage.relational.transitions.line import go_on, release
from taquba_workflow_sync.storage.relational.transitions.member import is_asked_to_stop
from taquba_workflow_sync.storage.relational.transitions.wait import reopen


def settle(tx: Transaction, settlement: Settlement) -> Ongoing | None:
    """Apply one settlement to the stored row; one that may hold its claim lets go of it, or has held it before.

    Raises:
        ClaimLostError: the claim is not held any more.
        CancelRequestedError: it yields to a cancellation, and one was requested.
        LimitPassedError: it yields to a limit, and that has passed.
        EffectConflictError, InputMismatchError, DuplicateJobIdError, GroupMismatchError: its effects are refused;
            nothing was written.
    """
    job_id, token = settlement.job_id, settlement.token
    held = read_held(tx, job_id, token)
    leave_to_hold = settlement.leave
    if leave_to_hold is not None and held.token == leave_to_hold.token:
        return Ongoing.HELD
    # A flag that another claim of the job carries is none of this one's: the door refuses it as lost.
    if settlement.yields_to_cancel and held.token == token:
        if is_asked_to_stop(tx, held):
            raise CancelRequestedError(f"job {job_id} was asked to cancel; settle it as cancelled")
        _refuse_what_is_late(tx, held, settlement)
    plan = None
    if settlement.effects:
        check_held(held, token)  # what has been lost conflicts with nothing
        plan = effects.plan_of(tx, held, settlement)
    answer = _move(tx, held, settlement, () if plan is None else plan.opens)
    if plan is not None:
        plan.apply()
    return answer


def _move(tx: Transaction, held: Held, settlement: Settlement, opens: Collection[str]) -> Ongoing | None:
    """Move the row as its settlement says; ``opens``: groups that it opens then.

    Raises:
        ClaimLostError: the claim is not held any more; nothing was written.
    """
    token, action = settlement.token, settlement.action
    match action:
        case Advance() if (
            token in tx.go_on
            and settlement.leave is not None
            and not held.belongings & RANKED
            and settings.may_hold(tx, held, action.settings)
        ):
            hold(tx, held, settlement)
            return Ongoing.HELD
        case Advance():
            advance(tx, held, token, action, opens)
        case Nack(error=error, delay_ms=delay_ms):
            due = tx.due_after(delay_ms)
            status = JobStatus.PENDING if due.due_ms is None else JobStatus.SCHEDULED
            leave(
                tx, "nack", sql.RETRY, (status, *due, status == JobStatus.SCHEDULED, storable_error(error)), held, token
            )
            timing.wait(tx, held)
            tx.move_row(held, status)
            tx.record_attempt(held, AttemptOutcome.RETRIED, error)
            trace.keep(tx, held, settlement.trace)
            effects.forget_refusals(tx, held)
            go_on(tx, held, status)
        case PutBack(delay_ms=delay_ms, why=why, is_retry=is_retry, is_refusal=is_refusal):
            due = tx.due_after(delay_ms)
            status = JobStatus.PENDING if due.due_ms is None else JobStatus.SCHEDULED
            leave(tx, "put_back", sql.PUT_BACK, (status, *due, is_retry and due.due_ms is not None), held, token)
            timing.wait(tx, held)
            tx.move_row(held, status)
            tx.record_attempt(held, AttemptOutcome.PUT_BACK, why)
            if is_refusal:
                effects.count_refusal(tx, held)
            go_on(tx, held, status)
        case Release():
            leave(tx, "release", sql.RELEASE, (), held, token)
            reopen(tx, held.seq, held.belongings, held.ordinal)
            timing.wait(tx, held, has_started=False)
            if held.belongings & Belonging.EVENTS:
                forget_claim(tx, held.seq, held.ordinal)
            tx.move_row(held, JobStatus.PENDING)
            release(tx, held)
        case Ack(verdict=verdict, result=result, error=error):
            outcome = AttemptOutcome.SUCCEEDED if verdict is Verdict.SUCCEEDED else AttemptOutcome.FAILED
            claim = Ended("ack", token, outcome, error)
            end(tx, held, JobStatus.DONE, claim, verdict=verdict, result=result, error=error)
        case DeadLetter(error=error):
            claim = Ended("dead_letter", token, AttemptOutcome.DEAD, error, settlement.trace)
            end(tx, held, JobStatus.DEAD, claim, error=error)
        case SettleCancelled(reason=reason):
            claim = Ended("settle_cancelled", token, AttemptOutcome.CANCELLED, reason)
            end(tx, held, JobStatus.CANCELLED, claim, error=reason)
        case _:
            assert_never(action)
    return None


def _refuse_what_is_late(tx: Transaction, held: Held, settlement: Settlement) -> None:
    late = None if settlement.ignores_deadline else timing.late(tx, held)
    if late is not None:
        raise LimitPassedError(late.overrun, late.why)
    end = settlement.step_end
    if end is not None and end.ms <= (tx.boot_ms if end.clock == DueClock.BOOT else tx.now_ms):
        raise LimitPassedError(Overrun.STEP_TIMEOUT, f"step {held.step} ran for longer than its step timeout")


def is_plain(settlement: Settlement) -> bool:
    """Whether :func:`settle_in_bulk` may try this one."""
    action = settlement.action
    if settlement.effects:
        return False
    return is_plain_end(settlement) or (
        type(action) is Advance
        and settlement.yields_to_cancel
        and action.headers is None
        and (action.settings is None or settlement.leave is not None)
        and not action.delay_ms
        and action.wait is None
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
            if is_plain_end(each):
                ends.append(each)
            elif isinstance(each.action, Advance) and each.action.settings is None:
                advances.append(each)
        elif each.leave is not None:
            chosen.append(each)
    # What was chosen and is not held has been refused: the single way says why, and takes no place in line for it.
    answers: dict[str, Ongoing | None] = dict.fromkeys(hold_many(tx, chosen), Ongoing.HELD)
    if ends:
        answers.update(dict.fromkeys(finish_many(tx, ends)))
    if advances:
        answers.update(dict.fromkeys(advance_many(tx, advances)))
    return answers
