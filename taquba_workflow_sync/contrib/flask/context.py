"""Steps and hooks inside an application context, a fresh one for each call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar, cast

from flask import Flask, current_app

from taquba_workflow_sync.workflow.hooks import Hook, NoopTerminalHook
from taquba_workflow_sync.workflow.outcomes import StepOutcome
from taquba_workflow_sync.workflow.runner import Step
from taquba_workflow_sync.workflow.served import Served, Service
from taquba_workflow_sync.workflow.webhook_hook import WebhookTerminalHook

_P = ParamSpec("_P")
_T = TypeVar("_T")


class InApp:
    """A flow whose steps and hook run inside the context of an application; what a runtime serves in its place."""

    def __init__(self, app: Flask, flow: Served) -> None:
        self._flow = flow
        self._app = app

    def run_step(self, step: Step) -> StepOutcome:
        """Run one step; teardown functions of the app have been called when it returns."""
        return in_context(self._app, self._flow.run_step)(step)

    def service(self) -> Service:
        """Return what a runtime needs to serve it."""
        inner = self._flow.service()
        run_step = in_context(self._app, inner.run_step)
        # As a bound method says whose it is: the command line looks there for the flow, to read what a run is given.
        vars(run_step)["__self__"] = self._flow
        return replace(inner, run_step=run_step, hook=_hook(self._app, inner.hook))


def current() -> Flask:
    """Return the current application itself, in place of Flask's proxy of it."""
    found: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # of the proxy
    return found


def in_context(app: Flask, function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Return a function that is called inside a context of its own."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with app.app_context():
            return function(*args, **kwargs)

    return call


def _hook(app: Flask, hook: Hook | None) -> Hook | None:
    # Neither of these calls a line of the user's; and a runtime knows them by their class.
    if hook is None or isinstance(hook, (NoopTerminalHook, WebhookTerminalHook)):
        return hook
    method: Callable[..., None] | None = getattr(hook, "on_termination", None)
    if method is None:
        return in_context(app, cast("Callable[..., None]", hook))
    methods: dict[str, Callable[..., Any]] = {"on_termination": in_context(app, method)}
    observes: Callable[..., Any] | None = getattr(hook, "observes", None)
    if observes is not None:
        methods["observes"] = in_context(app, observes)
    return cast("Hook", SimpleNamespace(**methods))
