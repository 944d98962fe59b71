"""The one error of delivery that a retry can help."""

from __future__ import annotations

from taquba_workflow_sync.errors import TaqubaError


class RetryLater(TaqubaError):
    """The receiver could not take the webhook now; deliver it again.

    ``retry_after`` is what the receiver asked for, in seconds from the moment it answered, or None when it named no
    time: the queue then uses its own backoff.
    """

    is_permanent = False

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
