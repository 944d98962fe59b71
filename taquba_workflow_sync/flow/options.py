"""What a step is given where it is decorated: how it is stored, how often it is tried, which errors count how."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from taquba_workflow_sync.errors import StepError, TaqubaError
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.policy import describe
from taquba_workflow_sync.workflow.settings import label, step_settings

Errors = tuple[type[BaseException], ...]


class GivenOptions(TypedDict):
    """The arguments of ``flow.step(...)`` and ``flow.start(...)``."""

    name: NotRequired[str | None]
    formerly: NotRequired[tuple[str, ...]]
    max_attempts: NotRequired[int | None]
    backoff: NotRequired[tuple[Duration, Duration] | None]
    timeout: NotRequired[Duration | None]
    priority: NotRequired[int | None]
    retry_on: NotRequired[Errors | type[BaseException] | None]
    fail_on: NotRequired[Errors | type[BaseException]]


class Settings(TypedDict):
    """What the outcome that names a step gives it."""

    label: str
    max_attempts: int | None
    backoff: tuple[Duration, Duration] | None
    priority: int | None
    step_timeout: Duration | None


@dataclass(frozen=True, slots=True)
class StepOptions:
    """The same, checked."""

    name: str
    formerly: tuple[str, ...]
    settings: Settings
    retry_on: Errors | None
    fail_on: Errors

    def verdict(self, error: Exception) -> StepError | None:
        """Return what an exception of the step counts as; None: as it does anywhere.

        What the library raises itself, a ``StepError`` above all, is left to say so itself unless it is named.
        """
        if self.fail_on and isinstance(error, self.fail_on):
            return StepError.permanent(describe(error))
        if self.retry_on is None:
            return None
        if isinstance(error, self.retry_on):
            if isinstance(error, TaqubaError) and error.is_permanent:
                return StepError.transient(describe(error))
            return None
        return None if isinstance(error, TaqubaError) else StepError.permanent(describe(error))


def checked_options(
    function_name: str,
    *,
    name: str | None = None,
    formerly: Iterable[str] = (),
    max_attempts: int | None = None,
    backoff: tuple[Duration, Duration] | None = None,
    timeout: Duration | None = None,
    priority: int | None = None,
    retry_on: Any = None,
    fail_on: Any = (),
) -> StepOptions:
    """Return the options of a step, all of them checked.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    called = label(function_name if name is None else name)
    if isinstance(formerly, str) or not isinstance(formerly, Iterable):
        raise TypeError(f"formerly must be a tuple of names, not {type(formerly).__name__}")
    settings = Settings(
        label=called, max_attempts=max_attempts, backoff=backoff, priority=priority, step_timeout=timeout
    )
    step_settings(label_=called, max_attempts=max_attempts, backoff_=backoff, priority=priority, step_timeout=timeout)
    retried = None if retry_on is None else _errors(retry_on, "retry_on")
    return StepOptions(called, tuple(map(label, formerly)), settings, retried, _errors(fail_on, "fail_on"))


def _errors(value: object, name: str) -> Errors:
    found = (value,) if isinstance(value, type) else value
    if not isinstance(found, (tuple, list)) or not all(
        isinstance(each, type) and issubclass(each, BaseException) for each in found
    ):
        raise TypeError(f"{name} must be exception classes, in a tuple, not {value!r:.80}")
    return tuple(found)
