"""Which queues a store has, and which of them a command means that does not say so: a project knows its own."""

from __future__ import annotations

from taquba_workflow_sync.contrib.django.discovery import flows
from taquba_workflow_sync.contrib.django.served import task_queues
from taquba_workflow_sync.contrib.django.stores import stores
from taquba_workflow_sync.errors import InvalidNameError
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.new_run import holds_runs


def queue_names(alias: str, queue: Queue) -> list[str]:
    """Return the queues of a store: those of the project's flows, of its tasks, and those that were ever used.

    In this order one is looked in for a name that several have: the project's own flows come first.
    """
    own = [flow.name for flow in flows() if flow.store == alias]
    own += [each.service().queue_name for each in task_queues(alias)]
    return list(dict.fromkeys([*own, *queue.list_queues()]))


def queue_of(alias: str, name: str) -> str | None:
    """Return the queue in which a run is called so, or a job has that id; None: there is none.

    Of several the first, in the order of the flows.
    """
    queue = stores().plain(alias)
    try:
        for queue_name in filter(holds_runs, queue_names(alias, queue)):
            if WorkflowClient(queue, queue_name=queue_name).status(name) is not None:
                return queue_name
        job = queue.get_job(name)
    except InvalidNameError:
        return None
    return None if job is None else job.queue
