"""Flows among targets, known without importing what they need: a target that is one has imported it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.runtime import WorkflowRuntime

if TYPE_CHECKING:
    from taquba_workflow_sync.flow.flow import Flow

    AnyFlow = Flow[Any, Any]
else:
    AnyFlow = object


def _is_flow(value: object) -> bool:
    module = sys.modules.get("taquba_workflow_sync.flow.flow")
    return module is not None and isinstance(value, module.Flow)


def flows_of(value: Any) -> tuple[AnyFlow, ...]:
    """Return a flow, or the flows of a list or tuple, as a tuple; empty for anything else."""
    if _is_flow(value):
        return (value,)
    if isinstance(value, (list, tuple)) and value and all(map(_is_flow, value)):
        return tuple(value)
    return ()


def flows_served(runtime: WorkflowRuntime) -> tuple[AnyFlow, ...]:
    """Return the flows that a runtime was made of."""
    runners = [getattr(service.run_step, "__self__", None) for service in runtime.services]
    return tuple(runner for runner in runners if _is_flow(runner))  # type: ignore[misc]  # as just looked


def bound_store(flows: tuple[AnyFlow, ...]) -> Queue | None:
    """Return the store that the first flow is bound to; None: to none."""
    from taquba_workflow_sync.flow.errors import FlowNotBoundError

    try:
        return flows[0].client().queue
    except FlowNotBoundError:
        return None
