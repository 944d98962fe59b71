"""What a step is given beside its payload, checked: by a submit for every step, by an outcome for the next."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.storage.port.settings import Backoff, StepSettings

_LABEL_BYTES: Final = 255

#: Of a step: its label, most attempts, backoff, priority and timeout.
NOTHING_GIVEN: Final = (None,) * 5


def label(value: object) -> str:
    """Return a checked label, which is shown in listings and logs."""
    if not isinstance(value, str):
        raise TypeError(f"label must be a str, not {type(value).__name__}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError(f"label {validation.shown(value)} has lone surrogates, which UTF-8 cannot hold") from None
    if not 1 <= size <= _LABEL_BYTES:
        raise ValueError(f"label {validation.shown(value)} has {size} bytes; it must have 1 to {_LABEL_BYTES}")
    if any(character < " " or character == "\x7f" for character in value):
        raise ValueError(f"label {validation.shown(value)} has control characters; use printable ones")
    return value


def backoff(value: object) -> Backoff:
    """Return a checked pair of the first wait and the longest."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"backoff must be a pair (base, max) of durations, not {type(value).__name__}")
    if len(value) != 2:
        raise ValueError(f"backoff is {validation.shown(value)}; it must be a pair (base, max) of durations")
    base, most = value
    return Backoff(
        validation.duration_ms(base, "the base of backoff"), validation.duration_ms(most, "the maximum of backoff")
    )


def step_settings(
    *,
    label_: str | None = None,
    max_attempts: int | None = None,
    backoff_: tuple[Duration, Duration] | None = None,
    priority: int | None = None,
    step_timeout: Duration | None = None,
) -> StepSettings | None:
    """Return what a step is given, checked; None: nothing.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    if (label_, max_attempts, backoff_, priority, step_timeout) == NOTHING_GIVEN:
        return None  # of each step that names a next one: it must cost nothing
    return StepSettings(
        None if label_ is None else label(label_),
        None if max_attempts is None else validation.integer(max_attempts, "max_attempts", least=1),
        None if backoff_ is None else backoff(backoff_),
        None if priority is None else validation.priority(priority),
        None if step_timeout is None else validation.duration_ms(step_timeout, "step_timeout", least=1),
    )
