"""Invalid rows read with what is wrong said of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from taquba_workflow_sync.storage.port.job import AttemptRow
from taquba_workflow_sync.storage.port.status import AttemptOutcome
from taquba_workflow_sync.storage.relational.columns import COLUMNS, Column, columns_of
from taquba_workflow_sync.storage.relational.rows import ShownRow

_SHOWN: Final = columns_of(ShownRow._fields)
_MOMENT: Final = COLUMNS["enqueued_ms"]
#: What the fields of an attempt may hold.
_ATTEMPT: Final = {
    "ordinal": COLUMNS["ordinal"],
    "step": COLUMNS["step"],
    "attempt": COLUMNS["attempts"],
    "claimed_ms": _MOMENT,
    "ended_ms": _MOMENT,
    "outcome": Column("outcome", str, placeholder=AttemptOutcome.FAILED, choices=frozenset(AttemptOutcome)),
    "error": COLUMNS["last_error"],
}
_ATTEMPT_COLUMNS: Final = tuple(_ATTEMPT[field] for field in AttemptRow._fields)


def readable(columns: Iterable[Column], values: Iterable[Any]) -> tuple[list[Any], list[str]]:
    """Return values that can be shown in place of those that cannot, and what is wrong with the row."""
    shown: list[Any] = []
    wrong: list[str] = []
    for column, value in zip(columns, values, strict=True):
        if column.holds(value):
            shown.append(value)
            continue
        wrong.append(str(column.why_not(value)))
        # A run stays a run in listings, whatever its name was.
        shown.append(f"(damaged) {value!r:.80}" if column.name == "run_id" else column.placeholder)
    return shown, wrong


def readable_row(values: Iterable[Any]) -> tuple[ShownRow, list[str]]:
    """Return a row as it can be shown, and what is wrong with it."""
    shown, wrong = readable(_SHOWN, values)
    return ShownRow._make(shown), wrong


def readable_attempt(values: Iterable[Any]) -> AttemptRow:
    """Return an attempt as it can be shown."""
    shown, wrong = readable(_ATTEMPT_COLUMNS, values)
    attempt = AttemptRow._make(shown)
    error = f"the stored row is damaged: {'; '.join(wrong)}" if wrong else attempt.error
    return attempt._replace(outcome=AttemptOutcome(attempt.outcome), error=error)
