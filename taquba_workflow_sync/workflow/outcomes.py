"""What a step may return: a closed family, each member checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration


class OutcomeTypeError(TypeError):
    """An outcome was made of arguments of the wrong type; from a step it is a permanent error."""


def _check_bytes(value: object, name: str) -> None:
    if not isinstance(value, bytes):
        raise OutcomeTypeError(f"{name} must be bytes, not {type(value).__name__}; encode it first")


def _check_reason(value: object) -> None:
    if not isinstance(value, str):
        raise OutcomeTypeError(f"reason must be a str, not {type(value).__name__}")


class StepOutcome:
    """Base of what a step may return; make one of the five below."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Continue(StepOutcome):
    """Go on with the next step, whose input is ``payload``.

    Raises:
        TypeError: ``payload`` is not bytes.
    """

    payload: bytes = b""

    def __post_init__(self) -> None:
        _check_bytes(self.payload, "payload")


@dataclass(frozen=True, slots=True)
class ContinueAfter(StepOutcome):
    """Go on with the next step after ``delay`` (seconds or a timedelta), counted from the commit of this one.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a negative or infinite delay.
    """

    payload: bytes
    delay: Duration
    delay_ms: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_bytes(self.payload, "payload")
        try:
            delay_ms = validation.duration_ms(self.delay, "delay")
        except TypeError as error:
            raise OutcomeTypeError(str(error)) from None
        object.__setattr__(self, "delay_ms", delay_ms)


@dataclass(frozen=True, slots=True)
class Succeed(StepOutcome):
    """End the run: it succeeded, with ``result``.

    Raises:
        TypeError: ``result`` is not bytes.
    """

    result: bytes = b""

    def __post_init__(self) -> None:
        _check_bytes(self.result, "result")


@dataclass(frozen=True, slots=True)
class Fail(StepOutcome):
    """End the run: it failed, by the runner's own verdict. No retry, no dead letter.

    Raises:
        TypeError: ``reason`` is not a str.
    """

    reason: str

    def __post_init__(self) -> None:
        _check_reason(self.reason)


@dataclass(frozen=True, slots=True)
class Cancel(StepOutcome):
    """End the run: it was cancelled, for ``reason``.

    Raises:
        TypeError: ``reason`` is not a str.
    """

    reason: str

    def __post_init__(self) -> None:
        _check_reason(self.reason)
