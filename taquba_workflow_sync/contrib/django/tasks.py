"""A backend of ``django.tasks`` (and of the package ``django-tasks`` on Django 5.2): tasks in a store of ``TAQUBA``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.core import checks
from django.utils import timezone
from django.utils.module_loading import import_string

from taquba_workflow_sync.contrib.django.conf import DEFAULT_ALIAS, aliases
from taquba_workflow_sync.contrib.django.immediate import work
from taquba_workflow_sync.contrib.django.stores import stores
from taquba_workflow_sync.contrib.django.task_call import TaskCall
from taquba_workflow_sync.contrib.django.task_results import result_of
from taquba_workflow_sync.contrib.django.task_running import TaskQueue
from taquba_workflow_sync.contrib.django.tasks_compat import (
    InvalidTask,
    TaskResultDoesNotExist,
    task_enqueued,
)
from taquba_workflow_sync.contrib.django.untyped import Untyped
from taquba_workflow_sync.errors import InvalidNameError
from taquba_workflow_sync.ids import new_ulid
from taquba_workflow_sync.queue.config import PRIORITY_NORMAL
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.new_run import checked_queue_name, holds_runs
from taquba_workflow_sync.workflow.spec import RunSpec

if TYPE_CHECKING:
    _BaseTaskBackend = Untyped
else:
    from taquba_workflow_sync.contrib.django.tasks_compat import BaseTaskBackend as _BaseTaskBackend


#: What the queues of tasks are called: this alone where a backend takes any queue name, else with the name behind it.
TASKS_QUEUE: Final = "tasks"
OPTIONS: Final = ("store", "immediate")
#: How often a task is begun whose worker dies.
CLAIMS: Final = 3
_STEP_OF_PRIORITY: Final = 9
_LABEL_CHARACTERS: Final = 60


class TaqubaBackend(_BaseTaskBackend):
    """Enqueues into a store of ``TAQUBA``; ``manage.py taquba_worker`` runs it.

    ``OPTIONS``: ``store``, the alias (``"default"``); ``immediate``, True: a task runs where it is enqueued, before
    that returns, for tests and development. A task is durable when it has been enqueued, in no transaction of the
    database. One that raises has failed; one whose worker dies is begun again, up to three times. Results, of an id
    that is the name of a run, are kept for seven days; their times are those stored, in milliseconds.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.store_alias: str = self.options.get("store", DEFAULT_ALIAS)
        self.is_immediate: bool = self.options.get("immediate", False) is True

    def validate_task(self, task: Any) -> None:
        """Check that the task can be stored and run.

        Raises:
            InvalidTask: it cannot.
        """
        super().validate_task(task)  # type: ignore[misc]  # Django has no types
        try:
            self._queue_of(task.queue_name)
        except (InvalidNameError, TypeError) as error:
            raise InvalidTask(f"Queue {task.queue_name!r} cannot be stored: {error}") from error

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Enqueue a task; durable on return.

        Raises:
            InvalidTask: this backend cannot run it.
            TypeError, ValueError: JSON cannot hold an argument; nothing was written.
            ImproperlyConfigured: the store's alias is wrong.
            PayloadTooLargeError, StorageError: as for ``WorkflowClient.submit``.
        """
        self.validate_task(task)
        call = TaskCall.of(task, args, kwargs)
        queue = self._store()
        client = self._client(queue, task.queue_name)
        run_after = task.run_after
        if run_after is not None and timezone.is_naive(run_after):
            run_after = timezone.make_aware(run_after)
        run_id = new_ulid()
        spec = RunSpec(
            input=call.encode(),
            run_id=run_id,
            priority=PRIORITY_NORMAL - _STEP_OF_PRIORITY * int(task.priority),
            run_at=run_after,
            max_attempts_per_step=CLAIMS,
            label=task.name[:_LABEL_CHARACTERS],
        )
        client.submit(spec)
        result = result_of(queue, client, run_id)
        # Robust: the task is stored, and whoever is told that it is not would enqueue it again.
        task_enqueued.send_robust(type(self), task_result=result)
        if self.is_immediate or stores().is_immediate(self.store_alias):
            work(queue, self.served())
            result = result_of(queue, client, run_id)
        return result

    def get_result(self, result_id: str) -> Any:
        """Return a result as it stands.

        Raises:
            TaskResultDoesNotExist: there is none of that id (any more).
        """
        queue = self._store()
        if isinstance(result_id, str):
            for name in filter(holds_runs, queue.list_queues()):
                if name == TASKS_QUEUE or name.startswith(f"{TASKS_QUEUE}-"):
                    client = WorkflowClient(queue, queue_name=name)
                    try:
                        if client.status(result_id) is not None:
                            return result_of(queue, client, result_id)
                    except InvalidNameError:
                        break
        raise TaskResultDoesNotExist(result_id)

    def served(self) -> list[TaskQueue]:
        """Return the queues of this backend's tasks, as a runtime serves them."""
        queue = self._store()
        return [TaskQueue(name, queue, type(self)) for name in self.queue_names()]

    def queue_names(self) -> list[str]:
        """Return what the queues of this backend's tasks are called in the store, which is not opened for that."""
        return [self._queue_of(name) for name in sorted(self.queues)] or [TASKS_QUEUE]

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """Return what is wrong with the options."""
        found: list[checks.CheckMessage] = []
        if self.store_alias not in aliases():
            text = f"TASKS[{self.alias!r}] names the store {self.store_alias!r}, which TAQUBA has not."
            hint = f"TAQUBA has {', '.join(map(repr, aliases())) or 'no aliases'}; set OPTIONS['store'] to one of them."
            found.append(checks.Error(text, hint=hint, id="taquba.E006"))
        for key in self.options:
            if key not in OPTIONS:
                text = f"TASKS[{self.alias!r}] has the unknown option {key!r}, which is ignored."
                found.append(checks.Warning(text, hint=f"It may have {', '.join(OPTIONS)}.", id="taquba.W004"))
        if not isinstance(self.options.get("immediate", False), bool):
            text = f"TASKS[{self.alias!r}]: immediate must be True or False, not {self.options['immediate']!r}."
            found.append(checks.Error(text, hint="Without it tasks are for a worker.", id="taquba.E007"))
        return found

    def _store(self) -> Queue:
        return stores().plain(self.store_alias)

    def _queue_of(self, name: str) -> str:
        return checked_queue_name(f"{TASKS_QUEUE}-{name}") if self.queues else TASKS_QUEUE

    def _client(self, queue: Queue, name: str) -> WorkflowClient:
        return WorkflowClient(queue, queue_name=self._queue_of(name))


def is_ours(path: object) -> bool:
    """Whether a BACKEND of TASKS is this one, or made of it."""
    if not isinstance(path, str):
        return False
    try:
        found = import_string(path)
    except ImportError:
        return False
    return isinstance(found, type) and issubclass(found, TaqubaBackend)
