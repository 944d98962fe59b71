"""What can be done to a run in the admin: cancel, retry, requeue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from taquba_workflow_sync import JobStatus
from taquba_workflow_sync.contrib.django.admin.places import Place
from taquba_workflow_sync.errors import InvalidStateError, RunNotFoundError
from taquba_workflow_sync.queue.records import JobRecord
from taquba_workflow_sync.workflow.status import RunState, RunStatus


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do. ``do`` takes the place, the run id and who asks, and returns what was done, in a few words."""

    name: str
    text: str
    text_for_many: str
    do: Callable[[Place, str, str], str]
    fits: Callable[[RunStatus, JobRecord | None], bool]

    @property
    def permission(self) -> str:
        """What a user must be allowed."""
        return f"taquba.{self.name}_run"


def _cancel(place: Place, run_id: str, who: str) -> str:
    if not place.client.cancel(run_id, reason=f"cancelled {who}"):
        raise InvalidStateError("it is over, or gone; there is nothing to cancel")
    status = place.client.status(run_id)
    return "asked to stop" if status is not None and status.state is RunState.CANCELLING else "cancelled"


def _retry(place: Place, run_id: str, who: str) -> str:
    place.client.retry(run_id)
    return "goes on at the step that failed"


def _requeue(place: Place, run_id: str, who: str) -> str:
    status = place.client.status(run_id)
    if status is None:
        raise RunNotFoundError(f"queue {place.queue_name!r} has no run {run_id!r}")
    place.queue.requeue_dead_job(status.job_id)
    return "back in line"


def _is_active(run: RunStatus, job: JobRecord | None) -> bool:
    return run.finished_at is None and run.state is not RunState.CANCELLING


def _has_failed(run: RunStatus, job: JobRecord | None) -> bool:
    return run.state is RunState.FAILED


def _is_dead(run: RunStatus, job: JobRecord | None) -> bool:
    return job is not None and job.status is JobStatus.DEAD


ACTIONS: Final = (
    Action("cancel", "Cancel this run", "Cancel selected runs", _cancel, _is_active),
    Action("retry", "Retry the failed step", "Retry selected runs that failed", _retry, _has_failed),
    Action("requeue", "Requeue the dead letter", "Requeue selected dead letters", _requeue, _is_dead),
)
