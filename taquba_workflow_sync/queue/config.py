"""What a queue's jobs get by default."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from taquba_workflow_sync.queue import validation

PRIORITY_HIGH: Final = 100
PRIORITY_NORMAL: Final = 1000
PRIORITY_LOW: Final = 10000

Duration = float | timedelta


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """Defaults of one queue; limits and retention are frozen on each job when it is put in.

    ``max_attempts``: claims a job (or a step of a run) gets before it is a dead letter, at least 1.
    ``lease_duration``: seconds a claim is good for; worker loops renew it.
    ``retry_backoff_base``, ``retry_backoff_max``: the n-th retry waits ``min(base * 2**(n-1), max)`` seconds; 0 means
    at once. ``retry_jitter``: wait a random part of that, between half and all.
    ``keep_done_jobs``: how long done and cancelled bare jobs stay readable; None leaves no row.
    ``dead_retention``: how long dead letters of bare jobs stay; None keeps them until they are requeued.
    ``priority_aging``: 1,000 points of priority are worth so much waiting in line, so that nothing waits for ever
    behind what is more urgent; None: priority is strict.

    Raises:
        TypeError: a value of the wrong type.
        ValueError: a senseless value.
    """

    max_attempts: int = 3
    lease_duration: Duration = 30.0
    default_priority: int = PRIORITY_NORMAL
    retry_backoff_base: Duration = 1.0
    retry_backoff_max: Duration = 300.0
    retry_jitter: bool = False
    keep_done_jobs: Duration | None = None
    dead_retention: Duration | None = timedelta(days=7)
    priority_aging: Duration | None = None

    def __post_init__(self) -> None:
        validation.integer(self.max_attempts, "max_attempts", least=1)
        validation.duration_ms(self.lease_duration, "lease_duration", least=1)
        validation.integer(self.default_priority, "default_priority", least=-validation.MAX_INT)
        validation.duration_ms(self.retry_backoff_base, "retry_backoff_base")
        validation.duration_ms(self.retry_backoff_max, "retry_backoff_max")
        validation.instance(self.retry_jitter, bool, "retry_jitter")
        for name in ("keep_done_jobs", "dead_retention"):
            if getattr(self, name) is not None:
                validation.duration_ms(getattr(self, name), name)
        if self.priority_aging is not None:
            validation.duration_ms(self.priority_aging, "priority_aging", least=1)

    @property
    def lease_ms(self) -> int:
        """The lease in milliseconds."""
        return validation.duration_ms(self.lease_duration, "lease_duration", least=1)

    @property
    def keep_done_ms(self) -> int | None:
        """``keep_done_jobs`` in milliseconds."""
        kept = self.keep_done_jobs
        return None if kept is None else validation.duration_ms(kept, "keep_done_jobs")

    @property
    def keep_dead_ms(self) -> int | None:
        """``dead_retention`` in milliseconds."""
        kept = self.dead_retention
        return None if kept is None else validation.duration_ms(kept, "dead_retention")

    @property
    def aging_ms(self) -> int | None:
        """``priority_aging`` in milliseconds."""
        aging = self.priority_aging
        return None if aging is None else validation.duration_ms(aging, "priority_aging", least=1)
