"""The job that tells a hook how a run ended: who asks for it, and what it carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from taquba_workflow_sync.clock import from_ms
from taquba_workflow_sync.errors import MissingHeaderError
from taquba_workflow_sync.outcome import RunOutcome, TerminalStatus
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.headers import (
    HEADER_ERROR,
    HEADER_FINISHED_MS,
    HEADER_JOB_ID,
    HEADER_RUN_ID,
    HEADER_STATUS,
    HEADER_STEP,
    HEADER_TERMINATION,
    RESERVED_HEADER_PREFIX,
    decode_headers,
    encode_headers,
)
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.texts import readable_error


@dataclass(frozen=True, slots=True)
class Subscription:
    """Who is told of a queue's terminated runs: the lane of notifications, and the limits frozen on each."""

    lane: str
    max_attempts: int
    keep_dead_ms: int | None


class Subscriptions(Protocol):
    """Who is told of ended runs."""

    def subscribe(self, queue: str, subscription: Subscription) -> None:
        """Have every later commit that terminates a run of ``queue`` insert a notification too."""
        ...

    def unsubscribe(self, queue: str, *, drop_from: str | None = None) -> int:
        """End that; with ``drop_from``, also remove up to 500 jobs that wait in that lane. Returns how many went."""
        ...


def notification_id(job_id: str, termination: int) -> str:
    """Return the id of the job that tells of an end of a run: the same outcome has the same, however it is told."""
    return f"{job_id}-{termination}"


def encode_notification(
    subscription: Subscription,
    *,
    job_id: str,
    run_id: str,
    step: int,
    headers: str,
    priority: int,
    status: TerminalStatus,
    termination: int,
    finished_ms: int,
    result: bytes | None,
    error: str | None,
) -> NewJob:
    """Return the job that carries a terminated run's outcome to its hook."""
    carried = decode_headers(headers)
    carried |= {
        HEADER_JOB_ID: job_id,
        HEADER_RUN_ID: run_id,
        HEADER_STEP: str(step),
        HEADER_STATUS: status,
        HEADER_TERMINATION: str(termination),
        HEADER_FINISHED_MS: str(finished_ms),
    }
    if error is not None:
        carried[HEADER_ERROR] = error
    return NewJob(
        id=notification_id(job_id, termination),
        queue=subscription.lane,
        payload=result or b"",
        headers=encode_headers(carried),
        priority=priority,
        max_attempts=subscription.max_attempts,
        keep_dead_ms=subscription.keep_dead_ms,
    )


_NEEDED: Final = (
    HEADER_RUN_ID,
    HEADER_STATUS,
    HEADER_STEP,
    HEADER_JOB_ID,
    HEADER_TERMINATION,
    HEADER_FINISHED_MS,
)


def decode_notification(row: ClaimedRow) -> RunOutcome:
    """Return the outcome that a notification carries.

    Raises:
        MissingHeaderError: the job is no notification.
        ValueError: a header cannot be read.
    """
    headers = decode_headers(row.headers)
    for name in _NEEDED:
        if name not in headers:
            raise MissingHeaderError(f"job {row.id} lacks the header {name!r}")
    status = TerminalStatus(headers[HEADER_STATUS])
    return RunOutcome(
        run_id=headers[HEADER_RUN_ID],
        status=status,
        result=row.payload if status is TerminalStatus.SUCCEEDED else None,
        error=readable_error(headers.get(HEADER_ERROR)),
        headers={name: value for name, value in headers.items() if not name.startswith(RESERVED_HEADER_PREFIX)},
        final_step=int(headers[HEADER_STEP]),
        job_id=headers[HEADER_JOB_ID],
        termination=int(headers[HEADER_TERMINATION]),
        finished_at=from_ms(int(headers[HEADER_FINISHED_MS])),
    )
