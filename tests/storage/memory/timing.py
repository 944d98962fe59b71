"""The limits of runs: which have passed, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

from taquba_workflow_sync.storage.port.timing import Late, LimitPassedError, Moment, Overrun, late_at
from tests.storage.memory.state import Row, State


def next_end(row: Row) -> int | None:
    """When a claim is to look after a row; None: not for its limits."""
    if row.finished_ms is not None or (row.held is not None and row.cancel_requested):
        return None
    return row.ends.deadline_ms if row.held is not None else row.ends.first_ms


def is_to_be_ended(row: Row, now_ms: int) -> bool:
    """Whether a claim is to look after a row now."""
    end_ms = next_end(row)
    return end_ms is not None and end_ms <= now_ms


def late_of(row: Row, now_ms: int) -> Late | None:
    """Which limit of a row has passed: while it is held, only the deadline counts."""
    return late_at(now_ms, row.ends._replace(expires_ms=None) if row.held is not None else row.ends)


def has_late(state: State, now_ms: int, queue: str) -> bool:
    """Whether a claim would find anything."""
    return any(is_to_be_ended(row, now_ms) for row in state.of_queue(queue))


def deadline_passed(row: Row, now_ms: int) -> Late | None:
    """The deadline of a held row, unless a cancellation goes before it."""
    return None if row.cancel_requested and not row.is_late else late_of(row, now_ms)


def refuse(row: Row, now_ms: int, *, ignores_deadline: bool, step_end: Moment | None) -> None:
    """Refuse a settlement that yields to a limit."""
    late = None if ignores_deadline else deadline_passed(row, now_ms)
    if late is not None:
        raise LimitPassedError(late.overrun, late.why)
    if step_end is not None and step_end.ms <= now_ms:
        raise LimitPassedError(Overrun.STEP_TIMEOUT, f"step {row.step} ran for longer than its step timeout")


def started(row: Row) -> Row:
    """Return a row that has started, and need not do so by any time."""
    return replace(row, ends=row.ends._replace(expires_ms=None))
