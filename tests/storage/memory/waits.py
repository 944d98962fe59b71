"""What a row waits for: begun with the step before, ended by the claim that follows, which fixes how."""

from __future__ import annotations

from dataclasses import replace

from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.wait import NEVER_MS, Wait, WaitEnd, WaitKind
from tests.storage.memory.state import Row, Waiting
from tests.storage.memory.transaction import Transaction


def received(row: Row) -> int | None:
    """Return the number of the signal that the wait has ended with, or that the next claim will find."""
    waiting = row.waiting
    if waiting is None or waiting.wait.kind is not WaitKind.SIGNAL:
        return None
    if waiting.ordinal is not None:
        return waiting.signal
    return next((number for number, signal in row.signals if signal.name == waiting.wait.name), None)


def in_line(row: Row) -> Row:
    """Return a row that waits no more."""
    return replace(row, status=JobStatus.PENDING, due_ms=None)


def is_open(row: Row) -> bool:
    """Whether it waits for something, and no claim has fixed how that ended."""
    return row.waiting is not None and row.waiting.ordinal is None


def begun(tx: Transaction, row: Row, wait: Wait, *, is_there: bool = False, has_come: bool = False) -> Row:
    """Return a row as it waits for its next step, or again for the one it is at; ``is_there``: it need not."""
    row = replace(row, waiting=Waiting(wait, has_come=has_come), held=None, run_at_ms=None)
    if is_there or has_come or received(row) is not None:
        return in_line(row)
    due_ms = NEVER_MS if wait.timeout_ms is None else tx.due_after(wait.timeout_ms)
    status = JobStatus.PENDING if due_ms is None else JobStatus.SCHEDULED
    return replace(row, status=status, due_ms=due_ms, run_at_ms=None if due_ms == NEVER_MS else due_ms)


def over(row: Row) -> Row:
    """Return a row whose step has ended well: without the signal that it received, if a claim had found it."""
    if row.waiting is None:
        return row
    left = tuple(each for each in row.signals if each[0] != row.waiting.signal)
    return replace(row, signals=left, waiting=None)


def fixed(row: Row) -> tuple[Row, WaitEnd | None]:
    """Return a row just claimed, and how its wait ended."""
    if row.waiting is None:
        return row, None
    number = received(row)
    if row.waiting.ordinal is None:
        row = replace(row, waiting=replace(row.waiting, ordinal=row.ordinal, signal=number))
    return row, WaitEnd(row.waiting.wait, dict(row.signals).get(number) if number is not None else None)  # type: ignore[union-attr]


def released(row: Row) -> Row:
    """Return a row whose claim never began: what that has fixed is open again."""
    if row.waiting is None or row.waiting.ordinal != row.ordinal:
        return row
    return replace(row, waiting=replace(row.waiting, ordinal=None, signal=None))
