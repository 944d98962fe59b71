"""A run to submit, made of its spec; limits and retention of its queue are frozen on it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from taquba_workflow_sync.errors import InvalidNameError
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.new_job import Limits
from taquba_workflow_sync.storage.port.headers import encode_headers
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.run import RunName
from taquba_workflow_sync.workflow.settings import step_settings
from taquba_workflow_sync.workflow.spec import RunSpec, check_headers
from taquba_workflow_sync.workflow.timing import time_limits

DEFAULT_QUEUE_NAME: Final = "workflow-steps"
DEFAULT_KEEP: Final = timedelta(days=7)
#: What the lane of a queue's notifications is called, after the queue.
LANE_SUFFIX: Final = ".terminal"
_NAME_BYTES: Final = 246  # 255 less the suffix of the notification lane


def checked_queue_name(queue_name: object) -> str:
    """Return a checked name of a queue of runs."""
    checked = validation.queue_name(queue_name, limit=_NAME_BYTES)
    if checked.endswith(LANE_SUFFIX):
        raise InvalidNameError(
            f"queue name {checked!r} ends with {LANE_SUFFIX!r}, which names the lane of notifications; rename it"
        )
    return checked


def holds_runs(queue_name: str) -> bool:
    """Whether a queue can have runs: lanes of notifications, and names that only bare jobs may have, have none."""
    try:
        checked_queue_name(queue_name)
    except InvalidNameError:
        return False
    return True


def new_run(
    limits: Limits, spec: RunSpec, queue_name: str, keep_ms: int | None, job_id: str, *, is_bounded: bool = False
) -> NewJob:
    """Return a checked run to insert; nothing is written. ``is_bounded``: a program submits it, to which a full queue
    says so.

    Raises:
        TypeError, PayloadTooLargeError: the spec does not fit the store.
    """
    validation.instance(spec, RunSpec, "spec")
    config = limits.config_of(queue_name)
    return NewJob(
        id=job_id,
        queue=queue_name,
        payload=validation.payload(spec.input, limits.max_payload_bytes, "input"),
        # Checked again: a dict can be changed after the spec was made.
        headers=encode_headers(check_headers(spec.headers)),
        priority=config.default_priority if spec.priority is None else spec.priority,
        max_attempts=config.max_attempts if spec.max_attempts_per_step is None else spec.max_attempts_per_step,
        run_at_ms=validation.moment_ms(spec.run_at, "run_at"),
        keep_done_ms=keep_ms,
        run=RunName(spec.run_id or job_id, spec.fingerprint(), spec.if_finished),
        limits=time_limits(spec.deadline, spec.expires_after),
        settings=step_settings(label_=spec.label, backoff_=spec.backoff, step_timeout=spec.step_timeout),
        limit_key=spec.limit_key,
        aging_ms=config.aging_ms,
        is_bounded=is_bounded,
    )
