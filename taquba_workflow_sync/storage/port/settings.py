"""What holds for one step of a run, and for every step that says nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Backoff(NamedTuple):
    """How long a retry waits: ``base_ms``, doubled with each, at most ``most_ms``."""

    base_ms: int
    most_ms: int


@dataclass(frozen=True, slots=True)
class StepSettings:
    """What a step is given; None: what the run has. A label is the step's alone, and goes with it."""

    label: str | None = None
    max_attempts: int | None = None
    backoff: Backoff | None = None
    priority: int | None = None
    step_timeout_ms: int | None = None

    @property
    def is_label_alone(self) -> bool:
        """Whether the step is called something, and given nothing else."""
        return self.label is not None and (self.max_attempts, self.backoff, self.priority, self.step_timeout_ms) == (
            None,
            None,
            None,
            None,
        )


class RunDefaults(NamedTuple):
    """What holds for every step of a run that says nothing else."""

    max_attempts: int
    priority: int
    backoff: Backoff | None = None
    step_timeout_ms: int | None = None


class CurrentSettings(NamedTuple):
    """What holds for the current step beside its attempts and priority, which every row has."""

    label: str | None = None
    backoff: Backoff | None = None
    step_timeout_ms: int | None = None


class NextStep(NamedTuple):
    """What the row has at a step: its attempts and priority, and the rest."""

    max_attempts: int
    priority: int
    current: CurrentSettings

    def is_plain(self, defaults: RunDefaults) -> bool:
        """Whether the row alone says all of it, for this step and those after it."""
        return (
            self.current == CurrentSettings()
            and defaults == (self.max_attempts, self.priority, None, None)
        )  # fmt: skip


def may_be_renamed(defaults: RunDefaults, step: NextStep) -> bool:
    """Return whether a claim may go on at a next step that is given a label alone: this one has nothing of its own
    beside its label, and no timeout, which would have to begin anew."""
    own = (step.max_attempts, step.priority, step.current.backoff, step.current.step_timeout_ms)
    return own == defaults and defaults.step_timeout_ms is None


def next_step(defaults: RunDefaults, settings: StepSettings | None) -> NextStep:
    """Return what holds for a step that was given ``settings``."""
    given = StepSettings() if settings is None else settings
    return NextStep(
        defaults.max_attempts if given.max_attempts is None else given.max_attempts,
        defaults.priority if given.priority is None else given.priority,
        CurrentSettings(
            given.label,
            defaults.backoff if given.backoff is None else given.backoff,
            defaults.step_timeout_ms if given.step_timeout_ms is None else given.step_timeout_ms,
        ),
    )
