"""Until when a run may take, as a submit says it, checked."""

from __future__ import annotations

from datetime import datetime, timedelta

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.storage.port.timing import TimeLimits


def time_limits(deadline: datetime | timedelta | None, expires_after: Duration | None) -> TimeLimits | None:
    """Return a run's limits; None: it has none. A deadline that has passed is one: a submit may be repeated late.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    at_ms = after_ms = None
    if isinstance(deadline, timedelta):
        after_ms = validation.duration_ms(deadline, "deadline", least=1)
    elif isinstance(deadline, datetime):
        at_ms = validation.moment_ms(deadline, "deadline")
    elif deadline is not None:
        raise TypeError(
            f"deadline must be an aware datetime, or a timedelta from the submit, not {type(deadline).__name__}"
        )
    expires_ms = None
    if expires_after is not None:
        expires_ms = validation.duration_ms(expires_after, "expires_after", least=1)
    limits = TimeLimits(at_ms, after_ms, expires_ms)
    return None if limits == TimeLimits() else limits
