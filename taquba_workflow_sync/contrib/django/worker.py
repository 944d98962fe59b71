"""What ``taquba_worker`` runs, made anew in each of its processes: ``...contrib.django.worker:runtime()``."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Final

import django
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from taquba_workflow_sync.contrib.django.conf import aliases
from taquba_workflow_sync.contrib.django.discovery import flows_of
from taquba_workflow_sync.contrib.django.served import served_by
from taquba_workflow_sync.contrib.django.serving import Within, with_connections
from taquba_workflow_sync.contrib.django.several import SeveralStores
from taquba_workflow_sync.contrib.django.stores import stores
from taquba_workflow_sync.flow import Flow
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.runtime import WorkflowRuntime
from taquba_workflow_sync.workflow.served import Served

#: How the command tells the processes that it starts what to serve: MODULE:NAME of flows; aliases, with commas between.
TARGET_VARIABLE: Final = "TAQUBA_DJANGO_TARGET"
USING_VARIABLE: Final = "TAQUBA_DJANGO_USING"
#: What the command line is given as its target.
TARGET: Final = "taquba_workflow_sync.contrib.django.worker:runtime()"


#: Set while a program calls the command: it has the stores open, too, and goes on with them afterwards.
KEEPS_OPEN: Final = ContextVar("taquba keeps open", default=False)


class _Kept(Queue):
    """An open store that a worker leaves open."""

    def close(self) -> None:
        """Leave it open."""


def runtime() -> WorkflowRuntime:
    """Return the runtime of what the environment says: a target, or all that there is to serve.

    Raises:
        ImproperlyConfigured: there is nothing, or the target is no flow.
    """
    if not apps.ready:
        django.setup()
    target = os.environ.get(TARGET_VARIABLE)
    if target:
        found = _imported(target)
        if isinstance(found, WorkflowRuntime):
            return found
        return runtime_of(_bound(found, target))
    using = os.environ.get(USING_VARIABLE)
    chosen = using.split(",") if using else aliases()
    served = {alias: served_by(alias) for alias in chosen}
    return runtime_of({alias: each for alias, each in served.items() if each})


def runtime_of(served: dict[str, list[Served]]) -> WorkflowRuntime:
    """Return the runtime of flows and queues of tasks, by the alias of their store.

    Raises:
        ImproperlyConfigured: there is nothing to serve, or a store's settings are wrong.
    """
    parts = [
        WorkflowRuntime(_store(alias), [Within(one, with_connections) for one in each])
        for alias, each in served.items()
    ]
    if not parts:
        raise ImproperlyConfigured(
            "there is nothing to serve: no app has a workflows.py with a Flow, and TASKS names no TaqubaBackend"
        )
    return parts[0] if len(parts) == 1 else SeveralStores(parts)


def _store(alias: str) -> Queue:
    queue = stores().plain(alias)
    return _Kept(queue.handle) if KEEPS_OPEN.get() else queue


def check_target(target: str) -> None:
    """Check that a target is one.

    Raises:
        ImproperlyConfigured: it cannot be imported, or is neither a flow nor a runtime.
    """
    found = _imported(target)
    if not isinstance(found, WorkflowRuntime):
        _bound(found, target)


def _imported(target: str) -> Any:
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise ImproperlyConfigured(f"{target!r} names no target; write MODULE:NAME, like shop.workflows:orders")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.removesuffix("()").split("."):
            found = getattr(found, part)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ImproperlyConfigured(f"cannot import {target!r}: {error}") from error
    return found() if name.endswith("()") else found


def _bound(found: Any, target: str) -> dict[str, list[Served]]:
    flows: Sequence[Flow[Any, Any]] = list(flows_of([found]))
    if not flows:
        raise ImproperlyConfigured(
            f"{target!r} is no target but a {type(found).__name__}; name a Flow, a list of them, or a WorkflowRuntime"
        )
    served: dict[str, list[Served]] = {}
    for flow in flows:
        served.setdefault(flow.store, []).append(flow)
    return served
