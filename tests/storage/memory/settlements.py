"""claimed -> whatever its settlement says, behind the fence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from taquba_workflow_sync.errors import CancelRequestedError, ClaimLostError, TaqubaError
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Advance,
    Answer,
    DeadLetter,
    Nack,
    Ongoing,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus, Verdict
from taquba_workflow_sync.storage.port.texts import storable_error
from tests.storage.memory.ending import end
from tests.storage.memory.holding import choose, hold
from tests.storage.memory.state import Row
from tests.storage.memory.transaction import Transaction
from tests.storage.memory.values import check_storable


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
    if row.cancel_requested and settlement.yields_to_cancel:
        raise CancelRequestedError(f"job {settlement.job_id} was asked to cancel; settle it as cancelled")
    return row


def _settle(tx: Transaction, settlement: Settlement, *, goes_on: bool) -> Ongoing | None:
    if _is_held(tx, settlement):
        return Ongoing.HELD
    row = _fenced(tx, settlement)
    match settlement.action:
        case Advance() as action if goes_on and settlement.leave is not None:
            hold(tx, row, action)
            return Ongoing.HELD
        case Advance() as action:
            _advance(tx, row, action)
        case Nack(error=error, delay_ms=delay_ms):
            row = replace(row, last_error=storable_error(error))
            _put_back(tx, tx.with_attempt(row, AttemptOutcome.RETRIED, error), delay_ms)
        case Release():
            tx.put(
                replace(row, status=JobStatus.PENDING, held=None, attempts=row.attempts - 1, ordinal=row.ordinal - 1)
            )
        case Ack(verdict=verdict, result=result, error=error):
            outcome = AttemptOutcome.SUCCEEDED if verdict is Verdict.SUCCEEDED else AttemptOutcome.FAILED
            row = tx.with_attempt(row, outcome, error)
            end(tx, row, JobStatus.DONE, verdict=verdict, result=result, error=error)
        case DeadLetter(error=error):
            end(tx, tx.with_attempt(row, AttemptOutcome.DEAD, error), JobStatus.DEAD, error=error)
        case SettleCancelled(reason=reason):
            end(tx, tx.with_attempt(row, AttemptOutcome.CANCELLED, reason), JobStatus.CANCELLED, error=reason)
        case _:
            assert_never(settlement.action)
    return None


def _is_held(tx: Transaction, settlement: Settlement) -> bool:
    """Whether the claim goes on already, since this was stored before."""
    leave, row = settlement.leave, tx.state.rows.get(settlement.job_id)
    return leave is not None and row is not None and row.held is not None and row.held.token == leave.token


def _advance(tx: Transaction, row: Row, action: Advance) -> None:
    check_storable(action.headers)
    row = tx.with_attempt(row, AttemptOutcome.CONTINUED, None)
    _put_back(
        tx,
        replace(
            row,
            step=row.step + 1,
            attempts=0,
            payload=bytes(action.payload),
            headers=row.headers if action.headers is None else action.headers,
            place=row.place if action.keeps_place else tx.next_number(),
            last_error=None,
        ),
        action.delay_ms,
    )


def _put_back(tx: Transaction, row: Row, delay_ms: int | None) -> None:
    """Put a row back in line, after a delay if there is one."""
    due_ms = tx.due_after(delay_ms)
    status = JobStatus.PENDING if due_ms is None else JobStatus.SCHEDULED
    tx.put(replace(row, status=status, held=None, due_ms=due_ms, run_at_ms=due_ms))
