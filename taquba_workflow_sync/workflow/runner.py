"""The contract of what users write: a runner, called once per attempt of a step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from taquba_workflow_sync.workflow.outcomes import StepOutcome


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One attempt of one step.

    ``payload`` is the run's input at step 0, then what the step before passed on. ``attempts`` is 1 at the first try;
    a redelivery after a crash or an error adds 1, so a runner must be idempotent for the same (``run_id``,
    ``step_number``). ``headers`` are the submitter's.
    """

    run_id: str
    step_number: int
    payload: bytes
    headers: dict[str, str]
    job_id: str
    attempts: int
    max_attempts: int
    #: Set when the run's cancellation was requested, or this claim was lost: what the step returns will not count.
    cancel_token: threading.Event
    #: Set when the process is shutting down: finish early with a ``Continue`` if you can.
    stopping: threading.Event

    @property
    def is_last_attempt(self) -> bool:
        """Whether a transient error now dead-letters the run."""
        return self.attempts >= self.max_attempts


@runtime_checkable
class StepRunner(Protocol):
    """Runs steps. A plain function of one argument is accepted in its place.

    Returns a ``StepOutcome``. Raises ``StepError`` to say whether a retry can help; any other exception counts as
    transient. Called by several threads at once.
    """

    def run_step(self, step: Step) -> StepOutcome:
        """Run one step and say what comes next."""
        ...


StepFunction = Callable[[Step], StepOutcome]


def step_function(runner: StepRunner | StepFunction) -> StepFunction:
    """Return the function that runs a step.

    Raises:
        TypeError: ``runner`` is neither a function nor has a method ``run_step``.
    """
    method = getattr(runner, "run_step", None)
    if callable(method):
        return method  # type: ignore[no-any-return]  # StepRunner's method
    if callable(runner):
        return runner
    raise TypeError(f"runner must be a function or have a method run_step, not {type(runner).__name__}")
