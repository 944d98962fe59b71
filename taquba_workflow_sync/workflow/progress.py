"""How far a step has come: said by the step, stored by the heartbeat, seen from every process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from taquba_workflow_sync.clock import from_ms
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.dispatch.lane import Execution
from taquba_workflow_sync.storage.port.progress import MOST_NOTE_BYTES, Progress, ProgressReport


@dataclass(frozen=True, slots=True)
class RunProgress:
    """What the step that runs said last of how far it is, and when that was stored; ``total`` None: nobody knows."""

    done: float
    total: float | None
    note: str
    at: datetime


def progress_of(stored: Progress | None) -> RunProgress | None:
    """Return the progress that a stored run shows."""
    return None if stored is None else RunProgress(stored.done, stored.total, stored.note, from_ms(stored.at_ms))


def say(execution: Execution, done: object, total: object, note: object) -> None:
    """Have the next heartbeat store what a step says; it replaces what was not stored yet.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    row = execution.row
    report = ProgressReport(
        row.id,
        row.token,
        _number(done, "done"),
        None if total is None else _number(total, "total"),
        validation.text(note, "note", most=MOST_NOTE_BYTES, least=0),
    )
    if not execution.is_lost:
        execution.progress = report


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be an int or a float, not {type(value).__name__}")
    if not 0 <= value <= validation.MAX_COUNT or not math.isfinite(value):
        raise ValueError(f"{name} is {validation.shown(value)}; it must be between 0 and {validation.MAX_COUNT}")
    return value
