"""Where a job stands, how it ended, and how each of its claims did."""

from __future__ import annotations

import enum


class JobStatus(enum.StrEnum):
    """Where a job stands; the transitions between the six are in ``storage.port.transitions``."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    CLAIMED = "claimed"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        """Whether nothing but a requeue or a retry moves the job on."""
        return self in (JobStatus.DONE, JobStatus.DEAD, JobStatus.CANCELLED)


class Verdict(enum.StrEnum):
    """What a job that ended as done, or a run that ended as dead, came to."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


class AttemptOutcome(enum.StrEnum):
    """How one claim of a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CONTINUED = "continued"
    RETRIED = "retried"
    DEAD = "dead"
    CANCELLED = "cancelled"
    REAPED = "reaped"
    PUT_BACK = "put_back"
