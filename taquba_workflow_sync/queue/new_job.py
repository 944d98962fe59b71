"""A job to put in, checked; limits and retention of its queue are frozen on it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from taquba_workflow_sync.ids import new_ulid
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import QueueConfig
from taquba_workflow_sync.storage.port.headers import encode_headers
from taquba_workflow_sync.storage.port.job import NewJob


class Limits(Protocol):
    """What is needed of an open store to make a job for it."""

    @property
    def max_payload_bytes(self) -> int:
        """The most that a payload may have."""
        ...

    def check_open(self) -> None:
        """Refuse if it was closed."""
        ...

    def config_of(self, queue_name: str) -> QueueConfig:
        """Return what a queue's jobs get by default."""
        ...


def new_job(
    handle: Limits,
    queue_name: str,
    payload: bytes,
    *,
    job_id: str | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    run_at: datetime | None = None,
    dedup_key: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> NewJob:
    """Return a checked job to insert; nothing is written."""
    handle.check_open()
    config = handle.config_of(validation.queue_name(queue_name))
    return NewJob(
        id=new_ulid() if job_id is None else validation.identifier(job_id, "job_id"),
        queue=queue_name,
        payload=validation.payload(payload, handle.max_payload_bytes),
        headers=encode_headers(validation.headers(headers)),
        priority=config.default_priority if priority is None else validation.priority(priority),
        max_attempts=config.max_attempts
        if max_attempts is None
        else validation.integer(max_attempts, "max_attempts", least=1),
        run_at_ms=validation.moment_ms(run_at, "run_at"),
        dedup_key=None if dedup_key is None else validation.dedup_key(dedup_key),
        keep_done_ms=config.keep_done_ms,
        keep_dead_ms=config.keep_dead_ms,
        id_given=job_id is not None,
        aging_ms=config.aging_ms,
    )
