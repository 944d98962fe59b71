"""Runs tasks: one queue of them, as a runtime serves it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from traceback import format_exception, format_exception_only
from typing import Any, Final

from taquba_workflow_sync.contrib.django.task_call import TaskCall
from taquba_workflow_sync.contrib.django.task_results import ERROR_PREFIX, moment, note_of, result_of
from taquba_workflow_sync.contrib.django.tasks_compat import (
    TaskContext,
    TaskError,
    TaskResultStatus,
    normalize_json,
    task_finished,
    task_started,
)
from taquba_workflow_sync.errors import StepError
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.new_run import DEFAULT_KEEP
from taquba_workflow_sync.workflow.outcomes import Fail, StepOutcome, Succeed
from taquba_workflow_sync.workflow.runner import Step
from taquba_workflow_sync.workflow.served import Service

_MOST_CHARACTERS: Final = 2000
#: Of a traceback, the end: a note of a memo has at most 1 MiB, and JSON may make six characters of one.
_MOST_OF_TRACEBACK: Final = 65_536


class TaskQueue:
    """The tasks of one queue. A task that raises has failed, at once; only one whose worker died is repeated."""

    def __init__(self, queue_name: str, queue: Queue, sender: type) -> None:
        self._name = queue_name
        self._queue = queue
        self._client = WorkflowClient(queue, queue_name=queue_name)
        self._sender = sender

    def service(self) -> Service:
        """Return what a runtime needs to serve it."""
        return Service(self._name, self.run_step, None, DEFAULT_KEEP)

    def run_step(self, step: Step) -> StepOutcome:
        """Run one task."""
        call = TaskCall.decode(step.payload)
        try:
            task = call.find()
        except ImportError as error:
            # It may be a newer version's, which this worker will be replaced by.
            raise StepError.transient(f"task {call.task} is not there: {error}") from error
        result = result_of(self._queue, self._client, step.run_id)
        # Robust: what a receiver raises is logged by Django, and makes no task be run again, or not at all.
        task_started.send_robust(sender=self._sender, task_result=result)
        try:
            arguments = [TaskContext(task_result=result), *result.args] if task.takes_context else result.args
            value = normalize_json(task.call(*arguments, **result.kwargs))
            answer = Succeed(json.dumps(value).encode())
        except KeyboardInterrupt as error:
            # As it is told to whoever waits for an immediate task.
            raise StepError.permanent(f"KeyboardInterrupt: {error}") from error
        except BaseException as error:
            traceback = "".join(format_exception(error))[-_MOST_OF_TRACEBACK:]
            step.run_memo.put(f"{ERROR_PREFIX}{datetime.now(UTC).isoformat()}", note_of(error, traceback))
            kind = type(error)
            found = TaskError(exception_class_path=f"{kind.__module__}.{kind.__qualname__}", traceback=traceback)
            result.errors.append(found)
            self._finished(result, TaskResultStatus.FAILED)
            return Fail(_in_a_line(error))
        object.__setattr__(result, "_return_value", value)
        self._finished(result, TaskResultStatus.SUCCESSFUL)
        return answer

    def _finished(self, result: Any, status: Any) -> None:
        object.__setattr__(result, "finished_at", moment(datetime.now(UTC)))
        object.__setattr__(result, "status", status)
        task_finished.send_robust(sender=self._sender, task_result=result)


def _in_a_line(error: BaseException) -> str:
    """Return an error as its traceback ends, which bears one whose text cannot be made, or holds lone surrogates."""
    text = "".join(format_exception_only(error)).strip()
    return text[:_MOST_CHARACTERS].encode("utf-8", "replace").decode()
