"""What a runtime serves: one queue and its runner, with the hook and the retention that belong to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast, runtime_checkable

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.hooks import Hook
from taquba_workflow_sync.workflow.new_run import DEFAULT_KEEP, DEFAULT_QUEUE_NAME
from taquba_workflow_sync.workflow.outcomes import StepOutcome
from taquba_workflow_sync.workflow.runner import Step, StepFunction, StepRunner, step_function


@dataclass(frozen=True, slots=True)
class Service:
    """One queue as a runtime serves it. ``prepare`` is called at each start, before anything is claimed.

    ``graph`` returns the text that is registered in the store then, for whoever shows what the runs go through; it is
    given the one that is there.
    """

    queue_name: str
    run_step: StepFunction
    hook: Hook | None
    keep_runs: Duration | None
    prepare: Callable[[Queue], None] | None = None
    graph: Callable[[str | None], str] | None = None


@runtime_checkable
class Served(Protocol):
    """A runner that says itself which queue it serves, and what belongs to that: a flow."""

    def run_step(self, step: Step) -> StepOutcome:
        """Run one step and say what comes next."""
        ...

    def service(self) -> Service:
        """Return what a runtime needs to serve it."""
        ...


Runner = StepRunner | StepFunction | Served | Sequence[Served]


def services_of(runner: Runner, hook: Hook | None, queue_name: str, keep_runs: Duration | None) -> list[Service]:
    """Return what a runtime is to serve.

    Raises:
        TypeError: ``runner`` is none, or several of which one does not say which queue it serves.
        ValueError: two serve one queue, or an argument says what is a flow's own to say.
    """
    if isinstance(runner, Served):
        return _of_flows([runner], hook, queue_name, keep_runs)
    if isinstance(runner, (list, tuple)):
        flows = list(runner)
        for each in flows:
            if not isinstance(each, Served):
                raise TypeError(
                    f"a runtime serves several flows, or one runner; a {type(each).__name__} in a list is no flow"
                )
        if not flows:
            raise ValueError("runner is an empty list; give the runtime at least one flow")
        return _of_flows(flows, hook, queue_name, keep_runs)
    return [Service(queue_name, step_function(cast("StepRunner | StepFunction", runner)), hook, keep_runs)]


def _of_flows(flows: list[Served], hook: Hook | None, queue_name: str, keep_runs: Duration | None) -> list[Service]:
    services = [flow.service() for flow in flows]
    names = [each.queue_name for each in services]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two of the flows are called {name!r}, which names their queue; rename one")
    if queue_name != DEFAULT_QUEUE_NAME and names != [queue_name]:
        raise ValueError(f"queue_name is {validation.shown(queue_name)}, but a flow serves the queue of its name")
    if keep_runs != DEFAULT_KEEP:
        raise ValueError("keep_runs is a flow's own: say it where the flow is made, Flow(name, keep_runs=...)")
    if hook is None:
        return services
    if all(each.hook is not None for each in services):
        raise ValueError(f"terminal_hook would be told of nothing: {', '.join(names)} have an on_end of their own")
    return [each if each.hook is not None else replace(each, hook=hook) for each in services]
