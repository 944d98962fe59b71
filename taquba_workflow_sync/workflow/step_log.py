"""What is said of a run: that it started, is tried again, has ended, is a dead letter; one line each, no payloads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from taquba_workflow_sync.storage.port.claim import ClaimedRow, TakenBack
from taquba_workflow_sync.storage.port.settlement import Ack, Action, DeadLetter, Nack, SettleCancelled
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.workflow.current import extras_of

_log = logging.getLogger(__name__)


def say_start(row: ClaimedRow) -> None:
    """Say that a run starts; of its first step's first attempt."""
    if row.attempts == 1 and _log.isEnabledFor(logging.INFO):
        _log.info("run %s started", row.run_id, extra=extras_of(row))


def line_about(row: ClaimedRow, action: Action, error: BaseException | None) -> Callable[[], None] | None:
    """Return what says how a step has ended, or None if nothing is to be said.

    To be called after the commit, where no lock is held: a handler may take as long as it likes.
    """
    level = _level_of(action)
    if level is None or row.run_id is None or not _log.isEnabledFor(level):
        return None

    def say() -> None:
        text, *values = _text_of(row, action, error)
        # A retry says of what kind the error was; its message may be anything. At the end it is told whole.
        tells_all = isinstance(action, DeadLetter) and error is not None
        _log.log(level, text, *values, extra=extras_of(row), exc_info=error if tells_all else None)

    return say


def line_about_taken_back(taken: TakenBack) -> Callable[[], None] | None:
    """Return what says that a run was taken back, or has ended, without a step's end; None if nothing is to be said."""
    level = _LEVELS[taken.status]
    if taken.run_id is None or not _log.isEnabledFor(level):
        return None
    extras = {
        "run_id": taken.run_id,
        "step": taken.step,
        "label": taken.label,
        "attempt": taken.attempts,
        "queue": taken.queue,
        "job_id": taken.job_id,
    }
    where = taken.run_id, taken.step
    match taken.status:
        case JobStatus.PENDING:
            text = "run %s, step %d: attempt %d of %d has come to no end and is tried again: %s"
            return partial(_log.log, level, text, *where, taken.attempts, taken.max_attempts, taken.why, extra=extras)
        case JobStatus.DEAD:
            text = "run %s is a dead letter: step %d, attempt %d of %d: %s"
            return partial(_log.log, level, text, *where, taken.attempts, taken.max_attempts, taken.why, extra=extras)
        case _:
            return partial(_log.log, level, "run %s was cancelled at step %d: %s", *where, taken.why, extra=extras)


_LEVELS: Final = {
    JobStatus.PENDING: logging.WARNING,
    JobStatus.DEAD: logging.ERROR,
    JobStatus.CANCELLED: logging.INFO,
}


def _level_of(action: Action) -> int | None:
    match action:
        case DeadLetter():
            return logging.ERROR
        case Nack():
            return logging.WARNING
        case Ack() | SettleCancelled():
            return logging.INFO
        case _:
            return None


def _text_of(row: ClaimedRow, action: Action, error: BaseException | None) -> tuple[str, *tuple[object, ...]]:
    kind = "" if error is None else type(error).__name__
    match action:
        case DeadLetter(error=why):
            text = "run %s is a dead letter: step %d failed at attempt %d of %d: %s"
            return text, row.run_id, row.step, row.attempts, row.max_attempts, kind or why
        case Nack(error=why, delay_ms=delay_ms):
            text = "step %d of run %s failed at attempt %d of %d and is tried again in %.1f s: %s"
            what = kind or why.partition(":")[0]
            return text, row.step, row.run_id, row.attempts, row.max_attempts, (delay_ms or 0) / 1000, what
        case Ack(verdict=Verdict.SUCCEEDED):
            return "run %s succeeded at step %d", row.run_id, row.step
        case Ack():
            return "run %s failed at step %d, by its runner's verdict", row.run_id, row.step
        case _:
            return "run %s was cancelled at step %d", row.run_id, row.step
