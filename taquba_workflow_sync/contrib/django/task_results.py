"""What a stored run of a task comes to as a ``TaskResult``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

from django.conf import settings
from django.utils import timezone

from taquba_workflow_sync import EventKind
from taquba_workflow_sync.contrib.django.task_call import TaskCall
from taquba_workflow_sync.contrib.django.tasks_compat import (
    TaskError,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
)
from taquba_workflow_sync.errors import RunCancelledError, RunFailedError
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.status import RunState, RunStatus

#: What the notes of the errors of a task begin with, in the memo of its run; a moment follows, which sorts them.
ERROR_PREFIX: Final = "error "
_STATUS: Final = {
    RunState.PENDING: TaskResultStatus.READY,
    RunState.RUNNING: TaskResultStatus.RUNNING,
    RunState.CANCELLING: TaskResultStatus.RUNNING,
    RunState.SUCCEEDED: TaskResultStatus.SUCCESSFUL,
    RunState.FAILED: TaskResultStatus.FAILED,
    RunState.CANCELLED: TaskResultStatus.FAILED,
}


def moment(value: datetime | None) -> datetime | None:
    """Return a stored moment as the project has its times: aware, or naive in its zone without USE_TZ."""
    if value is None or settings.USE_TZ:
        return value
    return timezone.make_naive(value.astimezone(UTC))  # type: ignore[no-any-return]  # Django has no types


def result_of(queue: Queue, client: WorkflowClient, run_id: str) -> Any:
    """Return the result of a run of a task as it stands.

    Raises:
        TaskResultDoesNotExist: there is no such run (any more), or it is none of a task.
        ImportError: its task is not there any more.
    """
    status = client.status(run_id)
    job = None if status is None else queue.get_job(status.job_id)
    if status is None or job is None:
        raise TaskResultDoesNotExist(run_id)
    try:
        call = TaskCall.decode(job.payload)
    except ValueError as error:
        raise TaskResultDoesNotExist(f"{run_id}: {error}") from error
    started = [event for event in client.history(run_id) if event.kind is EventKind.STARTED]
    result = TaskResult(
        task=call.find(),
        id=run_id,
        status=_STATUS[status.state],
        enqueued_at=moment(status.submitted_at),
        started_at=moment(started[0].at) if started else None,
        finished_at=moment(status.finished_at),
        last_attempted_at=moment(started[-1].at) if started else None,
        args=call.args,
        kwargs=call.kwargs,
        backend=call.backend,
        errors=_errors(client, status),
        worker_ids=[f"{event.host}-{event.pid}" for event in started],
    )
    if status.state is RunState.SUCCEEDED:
        outcome = client.outcome(run_id)
        if outcome is not None and outcome.result:
            object.__setattr__(result, "_return_value", json.loads(outcome.result))
    return result


def note_of(error: BaseException, traceback: str) -> bytes:
    """Return an error to note."""
    kind = type(error)
    return json.dumps(
        {"exception_class_path": f"{kind.__module__}.{kind.__qualname__}", "traceback": traceback}
    ).encode()


def _errors(client: WorkflowClient, status: RunStatus) -> list[Any]:
    noted = [
        TaskError(**json.loads(value))
        for key, value in client.memo(status.run_id, scope="run").items
        if key.startswith(ERROR_PREFIX)
    ]
    if status.state is RunState.CANCELLED:
        noted.append(_told(RunCancelledError, status))
    elif status.state is RunState.FAILED and not noted:
        # No error of the task's own: its workers were killed, or it was not there.
        noted.append(_told(RunFailedError, status))
    return noted


def _told(kind: type[Exception], status: RunStatus) -> Any:
    return TaskError(
        exception_class_path=f"{kind.__module__}.{kind.__qualname__}", traceback=f"{status.error or status.state}\n"
    )
