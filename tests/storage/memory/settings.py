"""What steps were given: the current one's, and what the run has for those after it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.settings import NextStep, RunDefaults, StepSettings, may_be_renamed, next_step
from tests.storage.memory.state import Row


def of_first_step(job: NewJob) -> dict[str, Any]:
    """Return what a new row has."""
    given = job.settings or StepSettings()
    defaults = RunDefaults(job.max_attempts, job.priority, given.backoff, given.step_timeout_ms)
    return {"defaults": defaults, "given": next_step(defaults, StepSettings(label=given.label)).current}


def at_next_step(row: Row, given: StepSettings | None) -> Row:
    """Return a row as its next step has it."""
    step = next_step(row.defaults, given)
    return replace(row, max_attempts=step.max_attempts, priority=step.priority, given=step.current)


def may_hold(row: Row, given: StepSettings | None) -> bool:
    """Whether the claim may go on at a step that is given this."""
    if given is None:
        return True
    step = NextStep(row.max_attempts, row.priority, row.given)
    return not step.is_plain(row.defaults) and may_be_renamed(row.defaults, step)


def has_plain_steps(row: Row) -> bool:
    """Whether the row's attempts and priority are all that this step and those after it have."""
    return NextStep(row.max_attempts, row.priority, row.given).is_plain(row.defaults)
