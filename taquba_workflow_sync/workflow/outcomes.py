"""What a step may return: a closed family, each member checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.storage.port.settings import StepSettings
from taquba_workflow_sync.workflow.settings import NOTHING_GIVEN, step_settings


class OutcomeTypeError(TypeError):
    """An outcome was made of arguments of the wrong type; from a step it is a permanent error."""


def _check_bytes(value: object, name: str) -> None:
    if not isinstance(value, bytes):
        raise OutcomeTypeError(f"{name} must be bytes, not {type(value).__name__}; encode it first")


def _check_reason(value: object) -> None:
    if not isinstance(value, str):
        raise OutcomeTypeError(f"reason must be a str, not {type(value).__name__}")


class StepOutcome:
    """Base of what a step may return; make one of those below."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GoesOn(StepOutcome):
    """Base of what names a next step; make one of those below. What that step is given, it has alone.

    ``label`` shows in ``RunStatus``, listings and logs. ``max_attempts``, ``backoff`` (a pair: the first wait and the
    longest), ``priority`` and ``step_timeout`` take the place of the run's for this step; None leaves it.
    """

    label: str | None = None
    max_attempts: int | None = None
    backoff: tuple[Duration, Duration] | None = None
    priority: int | None = None
    step_timeout: Duration | None = None
    settings: StepSettings | None = field(init=False, repr=False, compare=False, default=None)

    def _check(self, payload: object) -> None:
        """Check what all of them have; to be called when one is made."""
        _check_bytes(payload, "payload")
        try:
            settings = step_settings(
                label_=self.label,
                max_attempts=self.max_attempts,
                backoff_=self.backoff,
                priority=self.priority,
                step_timeout=self.step_timeout,
            )
        except TypeError as error:
            raise OutcomeTypeError(str(error)) from None
        object.__setattr__(self, "settings", settings)


@dataclass(frozen=True, slots=True)
class Continue(GoesOn):
    """Go on with the next step, whose input is ``payload``.

    ``label`` names that step in ``RunStatus`` and logs; ``max_attempts``, ``backoff`` (a pair: the first wait and the
    longest), ``priority`` and ``step_timeout`` take the place of the run's for that step alone.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a senseless one.
    """

    payload: bytes = b""

    def __post_init__(self) -> None:
        # Every step of most runs makes one: what it does not say costs it nothing.
        given = (self.label, self.max_attempts, self.backoff, self.priority, self.step_timeout)
        if type(self.payload) is not bytes or given != NOTHING_GIVEN:
            self._check(self.payload)


@dataclass(frozen=True, slots=True)
class ContinueAfter(GoesOn):
    """Go on with the next step after ``delay`` (seconds or a timedelta), counted from the commit of this one.

    What the step is given is said as for :class:`Continue`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a senseless one, such as a negative or infinite delay.
    """

    payload: bytes
    delay: Duration
    delay_ms: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check(self.payload)
        try:
            delay_ms = validation.duration_ms(self.delay, "delay")
        except TypeError as error:
            raise OutcomeTypeError(str(error)) from None
        object.__setattr__(self, "delay_ms", delay_ms)


@dataclass(frozen=True, slots=True)
class ContinueOnSignal(GoesOn):
    """Go on with the next step once a signal of that name is there, or ``timeout`` (seconds or a timedelta) is over.

    The next step has the signal as ``step.signal``, or None and ``step.wait_timed_out``. One that was buffered before
    is taken at once; ``timeout=0`` takes what is buffered and waits for nothing. Without a timeout the run waits for as
    long as it takes, and costs a row. What the step is given is said as for :class:`Continue`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: ``signal`` has not 1 to 512 bytes of UTF-8 without U+0000; a negative or infinite timeout.
    """

    payload: bytes
    signal: str
    timeout: Duration | None = None
    timeout_ms: int | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check(self.payload)
        try:
            validation.key(self.signal, "signal")
            timeout_ms = None if self.timeout is None else validation.duration_ms(self.timeout, "timeout")
        except TypeError as error:
            raise OutcomeTypeError(str(error)) from None
        object.__setattr__(self, "timeout_ms", timeout_ms)


@dataclass(frozen=True, slots=True)
class ContinueOnGroup(GoesOn):
    """Go on with the next step when the group has ended, or after ``timeout`` (seconds or a timedelta) if that is
    first.

    With ``on_failure="cancel"`` the first failed member is enough. The run waits as a row, and takes no thread.
    None: without a timeout. A group that there is none of, or that another run waits for, is a permanent error. What
    the step is given is said as for :class:`Continue`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a negative or infinite timeout, or no group id.
    """

    payload: bytes
    group_id: str
    timeout: Duration | None = None
    timeout_ms: int | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check(self.payload)
        try:
            validation.group_id(self.group_id)
            timeout_ms = None if self.timeout is None else validation.duration_ms(self.timeout, "timeout")
        except TypeError as error:
            raise OutcomeTypeError(str(error)) from None
        object.__setattr__(self, "timeout_ms", timeout_ms)


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
