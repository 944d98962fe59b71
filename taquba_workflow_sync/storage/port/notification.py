"""The job that tells a hook how a run ended: who asks for it, and what it carries."""

from __future__ import annotations

import json
from dataclasses import dataclass

from taquba_workflow_sync.storage.port.headers import (
    HEADER_ERROR,
    HEADER_FINISHED_MS,
    HEADER_JOB_ID,
    HEADER_RUN_ID,
    HEADER_STATUS,
    HEADER_STEP,
    HEADER_TERMINATION,
    readable_headers,
)
from taquba_workflow_sync.storage.port.job import NewJob


@dataclass(frozen=True, slots=True)
class Subscription:
    """Who is told of a queue's terminated runs: the lane of notifications, and the limits frozen on each."""

    lane: str
    max_attempts: int
    keep_dead_ms: int | None


def notification(
    subscription: Subscription,
    *,
    job_id: str,
    run_id: str,
    step: int,
    headers: str,
    priority: int,
    terminal: str,
    termination: int,
    finished_ms: int,
    result: bytes | None,
    error: str | None,
) -> NewJob:
    """Return the job that carries a terminated run's outcome to its hook.

    Its id is made from (job id, termination), so that the same outcome has the same id however it is told.
    """
    carried = readable_headers(headers)
    carried |= {
        HEADER_JOB_ID: job_id,
        HEADER_RUN_ID: run_id,
        HEADER_STEP: str(step),
        HEADER_STATUS: terminal,
        HEADER_TERMINATION: str(termination),
        HEADER_FINISHED_MS: str(finished_ms),
    }
    if error is not None:
        carried[HEADER_ERROR] = error
    return NewJob(
        id=f"{job_id}-{termination}",
        queue=subscription.lane,
        payload=result or b"",
        headers=json.dumps(carried, ensure_ascii=False, separators=(",", ":")),
        priority=priority,
        max_attempts=subscription.max_attempts,
        keep_dead_ms=subscription.keep_dead_ms,
    )
