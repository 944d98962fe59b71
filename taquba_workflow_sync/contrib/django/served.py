"""What a worker of an alias serves: the flows found that belong to it, and the queues of its tasks."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from taquba_workflow_sync.contrib.django.discovery import flows
from taquba_workflow_sync.workflow.served import Served


def served_by(alias: str) -> list[Served]:
    """Return the flows and the queues of tasks that work on the store of an alias."""
    own: list[Served] = [flow for flow in flows() if flow.store == alias]
    return [*own, *task_queues(alias)]


def task_backends() -> list[Any]:
    """Return the backends of TASKS that are this library's; none where the project has no tasks."""
    if not isinstance(getattr(settings, "TASKS", None), dict):
        return []
    try:
        from taquba_workflow_sync.contrib.django import tasks, tasks_compat
    except ImportError:  # Django 5.2 without django-tasks
        return []
    ours = []
    for alias, given in settings.TASKS.items():
        # Others are not made: a backend that cannot be imported is its own check's to say.
        if isinstance(given, dict) and tasks.is_ours(given.get("BACKEND")):
            ours.append(tasks_compat.task_backends[alias])
    return ours


def task_queues(alias: str) -> list[Served]:
    """Return the queues of tasks on a store, each once."""
    found: dict[str, Served] = {}
    for backend in task_backends():
        if backend.store_alias == alias:
            for served in backend.served():
                found.setdefault(served.service().queue_name, served)
    return list(found.values())
