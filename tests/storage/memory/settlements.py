"""claimed -> whatever its settlement says, behind the fence."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import assert_never

from taquba_workflow_sync.errors import (
    CancelRequestedError,
    ClaimLostError,
    EffectConflictError,
    GroupNotFoundError,
    InvalidStateError,
    TaqubaError,
)
from taquba_workflow_sync.storage.port.effects import OpenGroup
from taquba_workflow_sync.storage.port.limit import moved_rank
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Advance,
    Answer,
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
from taquba_workflow_sync.storage.port.wait import WaitKind
from tests.storage.memory import groups, settings, timing
from tests.storage.memory.effects import apply
from tests.storage.memory.ending import end
from tests.storage.memory.events import without_claim
from tests.storage.memory.holding import choose, hold
from tests.storage.memory.limiting import entered, go_on, release
from tests.storage.memory.state import Row
from tests.storage.memory.transaction import Transaction
from tests.storage.memory.values import check_storable
from tests.storage.memory.waits import begun, over, released


def settle_all(tx: Transaction, settlements: Sequence[Settlement]) -> list[Answer]:
    """Apply each settlement wholly or not at all; a refused one answers with its error."""
    answers: list[Answer] = []
    go_on = choose(tx, settlements)
    for settlement in settlements:
        before = tx.state.copy()
        try:
            answers.append(_settle(tx, settlement, goes_on=settlement.token in go_on))
        except TaqubaError as error:
            tx.state = before
            answers.append(error)
    return answers


def _fenced(tx: Transaction, settlement: Settlement) -> Row:
    """Return the row, if the claim still holds it."""
    row = tx.state.rows.get(settlement.job_id)
    if row is None or row.held is None or row.held.token != settlement.token:
        raise ClaimLostError(f"the claim of job {settlement.job_id} is not held any more")
    if settlement.yields_to_cancel:
        if row.cancel_requested and not row.is_late:
            raise CancelRequestedError(f"job {settlement.job_id} was asked to cancel; settle it as cancelled")
        timing.refuse(row, tx.now_ms, ignores_deadline=settlement.ignores_deadline, step_end=settlement.step_end)
    return row


def _settle(tx: Transaction, settlement: Settlement, *, goes_on: bool) -> Ongoing | None:
    if _is_held(tx, settlement):
        return Ongoing.HELD
    row = _fenced(tx, settlement)
    try:
        answer = _move(tx, row, settlement, goes_on=goes_on)
    except (GroupNotFoundError, InvalidStateError):
        _apply(tx, row, settlement)  # what is refused of its effects is said before
        raise
    _apply(tx, row, settlement)
    return answer


def _apply(tx: Transaction, row: Row, settlement: Settlement) -> None:
    try:
        apply(tx, settlement.effects, row)
    except EffectConflictError as conflict:
        conflict.refusals = row.refusals
        raise


def _move(tx: Transaction, row: Row, settlement: Settlement, *, goes_on: bool) -> Ongoing | None:
    match settlement.action:
        case Advance() as action if (
            goes_on and settlement.leave is not None and not _is_ranked(row) and settings.may_hold(row, action.settings)
        ):
            hold(tx, row, action)
            return Ongoing.HELD
        case Advance() as action:
            _advance(tx, row, action, [each.name for each in settlement.effects if isinstance(each, OpenGroup)])
        case Nack(error=error, delay_ms=delay_ms):
            row = replace(row, last_error=storable_error(error), refusals=0)
            _put_back(
                tx, tx.with_attempt(row, AttemptOutcome.RETRIED, error, settlement.trace), delay_ms, is_retry=True
            )
        case PutBack(delay_ms=delay_ms, why=why, is_retry=is_retry, is_refusal=is_refusal):
            row = replace(row, refusals=row.refusals + is_refusal)
            row = tx.with_attempt(row, AttemptOutcome.PUT_BACK, why)
            _put_back(tx, replace(row, attempts=row.attempts - 1), delay_ms, is_retry=is_retry)
        case Release():
            row = without_claim(released(row))
            tx.put(
                replace(row, status=JobStatus.PENDING, held=None, attempts=row.attempts - 1, ordinal=row.ordinal - 1)
            )
            release(tx, row)
        case Ack(verdict=verdict, result=result, error=error):
            outcome = AttemptOutcome.SUCCEEDED if verdict is Verdict.SUCCEEDED else AttemptOutcome.FAILED
            row = tx.with_attempt(row, outcome, error)
            end(tx, row, JobStatus.DONE, verdict=verdict, result=result, error=error)
        case DeadLetter(error=error):
            row = tx.with_attempt(row, AttemptOutcome.DEAD, error, settlement.trace)
            end(tx, row, JobStatus.DEAD, error=error)
        case SettleCancelled(reason=reason):
            end(tx, tx.with_attempt(row, AttemptOutcome.CANCELLED, reason), JobStatus.CANCELLED, error=reason)
        case _:
            assert_never(settlement.action)
    return None


def _is_ranked(row: Row) -> bool:
    return row.limit_key is not None or row.aging_ms is not None


def _is_held(tx: Transaction, settlement: Settlement) -> bool:
    """Whether the claim goes on already, since this was stored before."""
    leave, row = settlement.leave, tx.state.rows.get(settlement.job_id)
    return leave is not None and row is not None and row.held is not None and row.held.token == leave.token


def _advance(tx: Transaction, row: Row, action: Advance, opens: Collection[str]) -> None:
    check_storable(action.headers)
    is_group = action.wait is not None and action.wait.kind is WaitKind.GROUP
    group = groups.awaited(tx, row, action.wait, opens) if action.wait is not None and is_group else None
    before = over(tx.with_attempt(row, AttemptOutcome.CONTINUED, None))
    groups.leave(tx, before)
    row = replace(
        settings.at_next_step(before, action.settings),
        step=row.step + 1,
        attempts=0,
        payload=bytes(action.payload),
        headers=row.headers if action.headers is None else action.headers,
        place=row.place if action.keeps_place else tx.next_number(),
        last_error=None,
        is_retry=False,
        step_memo=(),
        refusals=0,
    )
    waits = row
    if action.wait is not None and group is None:
        waits = begun(tx, row, action.wait)
    elif action.wait is not None and group is not None:
        tx.put(row)
        waits = groups.begin(tx, row, action.wait, group)
    if action.keeps_place:
        row = replace(row, rank=moved_rank(before.rank, row.aging_ms, before.priority, row.priority))
    else:
        row = entered(tx, row, at_ms=tx.due_after(action.delay_ms) if action.wait is None else waits.due_ms)
    if action.wait is None:
        _put_back(tx, row, action.delay_ms)
        return
    tx.put(timing.started(replace(waits, rank=row.rank)))
    go_on(tx, row.id)


def _put_back(tx: Transaction, row: Row, delay_ms: int | None, *, is_retry: bool = False) -> None:
    """Put a row back in line, after a delay if there is one."""
    due_ms = tx.due_after(delay_ms)
    status = JobStatus.PENDING if due_ms is None else JobStatus.SCHEDULED
    row = timing.started(row)
    tx.put(
        replace(
            row, status=status, held=None, due_ms=due_ms, run_at_ms=due_ms, is_retry=is_retry and due_ms is not None
        )
    )
    go_on(tx, row.id)
