"""What steps were given, written with the row that they are of; what is damaged of it is taken as not given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from taquba_workflow_sync.storage.port.settings import (
    Backoff,
    CurrentSettings,
    NextStep,
    RunDefaults,
    StepSettings,
    next_step,
)
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import SETTINGS
from taquba_workflow_sync.storage.relational.columns import COLUMNS
from taquba_workflow_sync.storage.relational.connection import Cursor
from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.transaction import Transaction

_LONGEST_MS: Final = 2**53
Execute = Callable[..., Cursor]


def add(tx: Transaction, seq: int, defaults: RunDefaults, step: NextStep) -> None:
    """Write what a step has, and what its run has for those after it."""
    label, backoff, timeout_ms = step.current
    tx.execute(
        sql.PUT_SETTINGS,
        (
            seq,
            None if label is None else label.encode(),
            *(backoff or (None, None)),
            timeout_ms,
            defaults.max_attempts,
            defaults.priority,
            *(defaults.backoff or (None, None)),
            defaults.step_timeout_ms,
        ),
    )


def of_first_step(max_attempts: int, priority: int, given: StepSettings) -> tuple[RunDefaults, NextStep]:
    """Return what a run has, and its first step, which alone has the label."""
    defaults = RunDefaults(max_attempts, priority, given.backoff, given.step_timeout_ms)
    return defaults, next_step(defaults, StepSettings(label=given.label))


def of_next_step(tx: Transaction, held: Held, given: StepSettings | None) -> tuple[RunDefaults, NextStep] | None:
    """Return what the run has, and its next step; None: the row says all of it, and goes on saying it."""
    has_settings = held.belongings & SETTINGS
    if not has_settings and given is None:
        return None
    defaults = RunDefaults(held.max_attempts, held.priority)
    found = tx.execute(sql.FIND_DEFAULTS, (held.seq,)).fetchone() if has_settings else None
    if found is not None:
        max_attempts, priority, base_ms, most_ms, timeout_ms = found
        defaults = RunDefaults(
            max_attempts if COLUMNS["max_attempts"].holds(max_attempts) else held.max_attempts,
            priority if COLUMNS["priority"].holds(priority) else held.priority,
            backoff_of(base_ms, most_ms),
            timeout_ms,
        )
    return defaults, next_step(defaults, given)


def bits(belongings: int, planned: tuple[RunDefaults, NextStep] | None) -> int:
    """Return what a row has, once it has what was planned."""
    if planned is None:
        return belongings
    defaults, step = planned
    if step.is_plain(defaults):
        return belongings & ~SETTINGS
    return belongings | SETTINGS


def apply(tx: Transaction, held: Held, planned: tuple[RunDefaults, NextStep] | None) -> None:
    """Write what was planned, once the claim has ended."""
    if planned is None:
        return
    defaults, step = planned
    if (step.max_attempts, step.priority) != (held.max_attempts, held.priority):
        tx.execute(sql.SET_STEP, (step.max_attempts, step.priority, held.seq))
    if not step.is_plain(defaults):
        add(tx, held.seq, defaults, step)
    elif held.belongings & SETTINGS:
        drop(tx, held.seq)


def may_hold(tx: Transaction, held: Held, given: StepSettings | None) -> bool:
    """Whether the claim may go on at a step that is given this: nothing, or a label where the one before has one."""
    if given is None:
        return True
    if not held.belongings & SETTINGS:
        return False
    found = tx.execute(sql.MAY_BE_RENAMED, (held.seq,)).fetchone()
    return found is not None


def rename(tx: Transaction, seq: int, given: StepSettings | None) -> None:
    """Write what the next step is called, once the claim goes on."""
    if given is not None and given.label is not None:
        tx.execute(sql.RENAME, (given.label.encode(), seq))


def drop(tx: Transaction, seq: int) -> None:
    """Delete what steps of a row were given."""
    tx.execute(sql.DROP_SETTINGS, (seq,))


def current_of(execute: Execute, seq: int) -> CurrentSettings | None:
    """Return what the current step of a row was given."""
    found = execute(sql.FIND_SETTINGS, (seq,)).fetchone()
    if found is None:
        return None
    label, base_ms, most_ms, timeout_ms = found
    is_timeout = timeout_ms is not None and 0 < timeout_ms <= _LONGEST_MS
    return CurrentSettings(
        None if label is None else label.decode(errors="replace"),
        backoff_of(base_ms, most_ms),
        timeout_ms if is_timeout else None,
    )


def backoff_of(base_ms: Any, most_ms: Any) -> Backoff | None:
    """Return a stored backoff, if it is one."""
    if base_ms is None or most_ms is None:
        return None
    return Backoff(base_ms, most_ms) if 0 <= base_ms <= _LONGEST_MS and 0 <= most_ms <= _LONGEST_MS else None
