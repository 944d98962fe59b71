"""Runners in a Django process: database connections that have gone bad are closed around every step and hook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar

from django import db

from taquba_workflow_sync.workflow.hooks import Hook, NoopTerminalHook
from taquba_workflow_sync.workflow.outcomes import StepOutcome
from taquba_workflow_sync.workflow.runner import Step
from taquba_workflow_sync.workflow.served import Served, Service

_C = TypeVar("_C", bound=Callable[..., Any])
Around = Callable[[Callable[..., Any]], Callable[..., Any]]


def with_connections(function: _C, /) -> _C:
    """Have Django close connections that are unusable or too old before and after each call, as requests do.

    For the runner of a ``WorkflowRuntime`` of one's own; ``taquba_worker`` has it around every step of a flow and task.
    """

    @wraps(function)
    def closing(*args: Any, **kwargs: Any) -> Any:
        db.close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            db.close_old_connections()

    return closing  # type: ignore[return-value]  # it takes and returns what the function does


class Within:
    """What a runtime serves, with something around each call of its user's code."""

    def __init__(self, served: Served, around: Around) -> None:
        self._served = served
        self._around = around

    def run_step(self, step: Step) -> StepOutcome:
        """Run one step."""
        return self.service().run_step(step)

    def service(self) -> Service:
        """Return what a runtime needs to serve it."""
        service = self._served.service()
        hook = None if service.hook is None else _around_hook(service.hook, self._around)
        return replace(service, run_step=self._around(service.run_step), hook=hook)


class _Hook:
    """A hook with something around its calls."""

    def __init__(self, hook: Any, around: Around) -> None:
        self.on_termination = around(getattr(hook, "on_termination", hook))
        observes = getattr(hook, "observes", None)
        if observes is not None:
            self.observes = around(observes)


def _around_hook(hook: Hook, around: Around) -> Hook:
    return hook if isinstance(hook, NoopTerminalHook) else _Hook(hook, around)
