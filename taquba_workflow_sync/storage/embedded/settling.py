"""The ends of a claim, each behind its fence, and the end of a job, with the notification that tells of it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple, assert_never

from taquba_workflow_sync.errors import CancelRequestedError, ClaimLostError
from taquba_workflow_sync.storage.decisions import clip_error, notification, row_life_ms
from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.enqueueing import write
from taquba_workflow_sync.storage.embedded.transaction import FIRST_ATTEMPTS, WIDE_BYTES, Part, Transaction
from taquba_workflow_sync.storage.records import (
    Advance,
    AttemptOutcome,
    Cancelled,
    Dead,
    Done,
    JobStatus,
    Release,
    Retry,
    Settlement,
    Verdict,
)

_VALUES_LIMIT: Final = 64  # rows of one bulk advance; SQLite allows 32,766 variables, the statement cache likes few
_ADVANCE_MANY: Final = {
    size: sql.ADVANCE_MANY.format(values=",".join(["(?,?,?,?)"] * size)) for size in (1, 2, 4, 8, 16, 32, _VALUES_LIMIT)
}


class Held(NamedTuple):
    """A row about to leave its state, as the transaction found it."""

    seq: int
    id: str
    queue: int
    step: int
    attempts: int
    ordinal: int
    cancel_requested: int
    claimed_ms: int
    place: int
    priority: int
    wide: int
    run_id: str | None
    termination: int
    keep_done_ms: int | None
    keep_dead_ms: int | None
    headers: str | None


def row_number(token: str) -> int:
    """Return the row a token names: it ends with it, so that the fence finds its row without an index."""
    seq = token.rpartition(".")[2]
    return int(seq) if seq.isdecimal() and seq.isascii() and len(seq) < 19 else 0


def _attempt_number(token: str) -> int:
    """Return which attempt a token is of; only for tokens that passed the fence."""
    return int(token.split(".", 2)[1])


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
        case Retry(error=error, delay_ms=delay_ms):
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
        case Done(verdict=verdict, result=result, error=error):
            tx.transitions.add("ack")
            outcome = AttemptOutcome.SUCCEEDED if verdict is Verdict.SUCCEEDED else AttemptOutcome.FAILED
            _record(tx, held, outcome, error)
            end(tx, held, JobStatus.CLAIMED, JobStatus.DONE, verdict=verdict, result=result, error=error)
        case Dead(error=error):
            tx.transitions.add("dead_letter")
            _record(tx, held, AttemptOutcome.DEAD, error)
            end(tx, held, JobStatus.CLAIMED, JobStatus.DEAD, error=error)
        case Cancelled(reason=reason):
            tx.transitions.add("settle_cancelled")
            _record(tx, held, AttemptOutcome.CANCELLED, reason)
            end(tx, held, JobStatus.CLAIMED, JobStatus.CANCELLED, error=reason)
        case _:
            assert_never(action)


def _record(tx: Transaction, held: Held, outcome: AttemptOutcome, error: str | None) -> None:
    tx.record_attempt(held.seq, held.ordinal, held.step, held.attempts, held.claimed_ms, outcome, error)


def _advance(tx: Transaction, held: Held, token: str, action: Advance) -> None:
    due = tx.due_after(action.delay_ms)
    status = JobStatus.PENDING if due.due_ms is None else JobStatus.SCHEDULED
    place = held.place if action.keeps_place else tx.next_seq()
    payload, wide = tx.put_part(held.seq, Part.PAYLOAD, action.payload, held.wide)
    headers: bytes | str | None = held.headers
    if action.headers is not None:
        headers, wide = tx.put_part(held.seq, Part.HEADERS, action.headers, wide)
    tx.execute(sql.ADVANCE, (status, *due, place, payload, headers, wide, held.seq, token))
    tx.move(held.queue, JobStatus.CLAIMED, status)


def advance_many(tx: Transaction, settlements: Sequence[Settlement]) -> set[str]:
    """Advance all that need nothing special in one statement; returns the tokens advanced.

    The others (refused, or with wide parts) are left as they were, for :func:`settle`.
    """
    done: set[str] = set()
    for start in range(0, len(settlements), _VALUES_LIMIT):
        done |= _advance_chunk(tx, settlements[start : start + _VALUES_LIMIT])
    return done


def is_plain(settlement: Settlement) -> bool:
    """Whether :func:`advance_many` may try this one."""
    action = settlement.action
    return (
        type(action) is Advance
        and settlement.yields_to_cancel
        and action.headers is None
        and not action.delay_ms
        and len(action.payload) <= WIDE_BYTES
    )


def _advance_chunk(tx: Transaction, settlements: Sequence[Settlement]) -> set[str]:
    values: list[object] = []
    by_row: dict[int, Settlement] = {}
    for settlement in settlements:
        action = settlement.action
        assert isinstance(action, Advance)
        seq = row_number(settlement.token)
        if seq in by_row:
            continue  # a second settlement of one row cannot hold; the single way refuses it
        by_row[seq] = settlement
        values += (seq, settlement.token, action.payload, None if action.keeps_place else tx.next_seq())
    # Filled up to a power of two with rows that match nothing, so that few statements serve every size.
    size = 1 << (len(by_row) - 1).bit_length()
    values += (0, "", b"", None) * (size - len(by_row))
    rows = tx.execute(_ADVANCE_MANY[size], values).fetchall()
    attempts = []
    moved: dict[int, int] = {}
    for seq, ordinal, queue, step, claimed_ms in rows:
        attempt = _attempt_number(by_row[seq].token)
        attempts.append((seq, ordinal, step, attempt, claimed_ms, tx.now_ms, "continued", None))
        moved[queue] = moved.get(queue, 0) + 1
        if ordinal > FIRST_ATTEMPTS:
            tx.bound_history(seq, ordinal)
    if attempts:
        tx.transitions.add("advance")
        tx.connection.executemany(sql.ADD_ATTEMPT, attempts)
    for queue, many in moved.items():
        tx.move(queue, JobStatus.CLAIMED, JobStatus.PENDING, many)
    return {by_row[row[0]].token for row in rows}


def end(
    tx: Transaction,
    held: Held,
    source: JobStatus,
    target: JobStatus,
    *,
    verdict: Verdict | None = None,
    result: bytes | None = None,
    error: str | None = None,
) -> str | None:
    """Finish a job, or remove it where nothing is kept; returns the id of its notification, if it has one."""
    is_run = held.run_id is not None
    if is_run and target is JobStatus.DEAD:
        verdict = Verdict.FAILED
    life = row_life_ms(
        is_run=is_run,
        is_dead=target is JobStatus.DEAD,
        keep_done_ms=held.keep_done_ms,
        keep_dead_ms=held.keep_dead_ms,
    )
    tx.move(held.queue, source, target)
    if life == 0:
        tx.drop_row(held.seq, held.wide)
        if target is JobStatus.DEAD:
            tx.count(held.queue, target, -1)
        return None
    stored, wide = tx.put_part(held.seq, Part.RESULT, result, held.wide)
    expires = None if life is None else tx.now_ms + life
    termination = held.termination + is_run
    tx.execute(
        sql.FINISH,
        (target, verdict, stored, clip_error(error), wide, tx.now_ms, expires, termination, held.seq),
    )
    return notify(tx, held, target, verdict, result, error, termination) if is_run else None


def notify(
    tx: Transaction,
    held: Held,
    target: JobStatus,
    verdict: Verdict | None,
    result: bytes | None,
    error: str | None,
    termination: int,
) -> str | None:
    """Insert the notification of a run's end where a hook is registered; returns its id."""
    tx.ended_run = True
    observer = tx.observer(held.queue)
    if observer is None or held.run_id is None:
        return None
    headers = held.headers
    if held.wide & 1 << Part.HEADERS:
        headers = str(tx.get_part(held.seq, Part.HEADERS) or "")
    job = notification(
        observer,
        job_id=held.id,
        run_id=held.run_id,
        step=held.step,
        headers=headers or "",
        priority=held.priority,
        terminal=terminal_status(target, verdict),
        termination=termination,
        finished_ms=tx.now_ms,
        result=result,
        error=clip_error(error),
    )
    if tx.execute(sql.FIND_ID, (job.id,)).fetchone() is not None:
        # A job of the user's own may have that name; the run must end all the same.
        job = replace(job, id=f"{job.id}-{secrets.token_hex(8)}")
    tx.transitions.add("notify")
    write(tx, job)
    return job.id


def terminal_status(status: JobStatus, verdict: Verdict | None) -> str:
    """Return succeeded, failed or cancelled."""
    if status is JobStatus.CANCELLED:
        return "cancelled"
    return "succeeded" if verdict is Verdict.SUCCEEDED else "failed"
