"""Retry or dead letter, and when: pure decisions, passed down to the store as data."""

from __future__ import annotations

import random
from collections.abc import Callable

from taquba_workflow_sync.errors import PermanentFailure, StepError, TaqubaError
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import QueueConfig
from taquba_workflow_sync.storage.port.settings import Backoff
from taquba_workflow_sync.storage.port.settlement import DeadLetter, Nack, PutBack


def backoff_ms(
    config: QueueConfig,
    attempts: int,
    jitter: Callable[[], float] = random.random,
    backoff: Backoff | None = None,
) -> int:
    """Return how long the retry after ``attempts`` attempts waits: ``min(base * 2**(attempts-1), max)``.

    ``backoff``: what a step was given, in place of its queue's.
    """
    if backoff is None:
        base = validation.duration_ms(config.retry_backoff_base, "retry_backoff_base")
        most = validation.duration_ms(config.retry_backoff_max, "retry_backoff_max")
    else:
        base, most = backoff
    # The exponent is bounded: the doubling is over the maximum long before, and 2**attempts would be a huge number.
    wait = min(base << min(max(attempts - 1, 0), 62), most)
    return round(wait * (0.5 + jitter() / 2)) if config.retry_jitter else wait


def after_failure(
    config: QueueConfig,
    *,
    attempts: int,
    max_attempts: int,
    error: str,
    retry_after: float | None = None,
    backoff: Backoff | None = None,
) -> Nack | DeadLetter:
    """Return what a transient failure of attempt ``attempts`` leads to.

    ``retry_after``, in seconds, is what the other side asked for; it takes the place of the backoff.
    """
    if attempts >= max_attempts:
        return DeadLetter(error)
    if retry_after is not None:
        return Nack(error, validation.duration_ms(max(retry_after, 0.0), "retry_after"))
    return Nack(error, backoff_ms(config, attempts, backoff=backoff))


def after_exception(
    config: QueueConfig,
    error: BaseException,
    *,
    attempts: int,
    max_attempts: int,
    backoff: Backoff | None = None,
) -> Nack | DeadLetter | PutBack:
    """Return what an exception that escaped a worker leads to: permanent errors are dead letters at once, and what was
    put back waits as long as it says, uncharged."""
    text = describe(error)
    if isinstance(error, StepError) and error.delay is not None:
        return PutBack(validation.duration_ms(error.delay, "delay"), text or None)
    if isinstance(error, TaqubaError) and error.is_permanent:
        return DeadLetter(text)
    retry_after = getattr(error, "retry_after", None) if isinstance(error, TaqubaError) else None
    return after_failure(
        config, attempts=attempts, max_attempts=max_attempts, error=text, retry_after=retry_after, backoff=backoff
    )


def describe(error: BaseException) -> str:
    """Return ``"TypeName: message"``, or the message alone of the library's own errors made to carry one."""
    try:
        message = str(error)
    except Exception:  # a user's __str__ may fail; the error must be recorded all the same
        message = "(its message cannot be shown)"
    message = message.encode("utf-8", "backslashreplace").decode()
    if isinstance(error, (StepError, PermanentFailure)):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
