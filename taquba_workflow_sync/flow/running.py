"""One attempt of a run of a flow, from what is stored to what is to be stored."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from taquba_workflow_sync.flow.definition import Definition
from taquba_workflow_sync.flow.node import Node
from taquba_workflow_sync.flow.routing import Place, of_other_steps, place_of
from taquba_workflow_sync.flow.waiting import leave_to_newer
from taquba_workflow_sync.workflow.outcomes import GoesOn, StepOutcome
from taquba_workflow_sync.workflow.runner import Step

#: What takes the place of a timeout that the first step alone has: no step takes so long.
_NO_TIMEOUT: Final = timedelta(days=3650)


def run_step(definition: Definition, step: Step) -> StepOutcome:
    """Run one attempt of a step, and return what comes next."""
    place = place_of(step)
    node = _node_at(definition, step, place)
    outcome = node.run(step, node.decode(place.state, place.version))
    if isinstance(outcome, GoesOn):
        others = of_other_steps(step.headers)
        if others:
            return _without_those_of_first(step, outcome, others)
    return outcome


def _node_at(definition: Definition, step: Step, place: Place) -> Node:
    """Return the step that a run stands at, if this program may run it.

    Raises:
        StepError: it may not; a newer worker will.
    """
    if place.version is not None and place.version > definition.version:
        raise leave_to_newer(
            step,
            f"its state is of version {place.version} of flow {definition.name!r}, this worker has version"
            f" {definition.version}",
        )
    node = definition.first if place.step is None else definition.find(place.step)
    if node is None:
        known = ", ".join(definition.nodes)
        raise leave_to_newer(
            step,
            f"version {definition.version} of flow {definition.name!r} has no step {place.step!r} (it has {known}); a"
            " step that was renamed is found by formerly=",
        )
    return node


def _without_those_of_first(step: Step, outcome: GoesOn, others: dict[str, Any]) -> GoesOn:
    """Return the outcome with what its step is to have in place of the first one's, which a run has for all of them."""
    config = step._held.config
    defaults: dict[str, Any] = {
        "max_attempts": config.max_attempts,
        "backoff": (config.retry_backoff_base, config.retry_backoff_max),
        "priority": config.default_priority,
        "step_timeout": _NO_TIMEOUT,
    }
    given = {name: defaults[name] if value is None else value for name, value in others.items()}
    return replace(outcome, **{name: value for name, value in given.items() if getattr(outcome, name) is None})
