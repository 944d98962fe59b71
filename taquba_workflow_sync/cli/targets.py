"""``MODULE:NAME``: what a command works with, imported, and the runtime of it."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from inspect import Parameter, isroutine, signature
from typing import Any

import click

from taquba_workflow_sync.cli.exit_codes import BUSY, ERROR, Failure, Interrupted, Terminated
from taquba_workflow_sync.cli.flows import AnyFlow, bound_store, flows_of, flows_served
from taquba_workflow_sync.cli.payloads import given_bytes, spec_of_bytes
from taquba_workflow_sync.cli.store import given_store, is_url, opened, shown
from taquba_workflow_sync.errors import StoreInUseError, TaqubaError
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.runtime import WorkflowRuntime
from taquba_workflow_sync.workflow.spec import RunSpec


@dataclass(frozen=True, slots=True)
class Work:
    """What a target comes to: a runtime on an open store, and the flows that it serves, if they are flows."""

    text: str
    queue: Queue
    runtime: WorkflowRuntime
    flows: tuple[AnyFlow, ...]

    def queue_name(self, given: str | None) -> str:
        """Return which of its queues is meant.

        Raises:
            click.UsageError: it does not serve the queue that was named; or several, and none was named.
        """
        names = self.runtime.queue_names
        if given is None and len(names) == 1:
            return names[0]
        if given in names:
            return str(given)
        said = "name one of them with --queue" if given is None else f"and not {given!r}"
        raise click.UsageError(f"{self.text!r} serves {', '.join(names)}; {said}")

    def client(self, given: str | None) -> WorkflowClient:
        """Return a client of the queue that is meant."""
        name = self.queue_name(given)
        flow = self.flow(name)
        return self.runtime if flow is None else flow.client(self.queue)

    def flow(self, name: str) -> AnyFlow | None:
        """Return the flow of a queue; None: it is served by a runner of bytes."""
        return next((flow for flow in self.flows if flow.name == name), None)

    def spec(self, given: str | None, fields: dict[str, Any], queue_name: str | None) -> RunSpec:
        """Return a run to submit.

        Raises:
            click.UsageError: a flow was given what is no JSON, or a field is senseless.
            Failure: what was given does not fit the flow; names the path.
        """
        flow = self.flow(self.queue_name(queue_name))
        if flow is None:
            return spec_of_bytes(given_bytes(given), fields)
        # Checked by themselves, so that what is wrong with them is not taken for something wrong with the state.
        spec_of_bytes(b"", fields)
        try:
            return flow.spec(flow.input_of(b"null" if given is None else given_bytes(given)), **fields)
        except TypeError as error:
            raise Failure(f"the input does not fit flow {flow.name!r}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"--input is no JSON, which a flow takes: {error}") from None


def imported(text: str, open_store: Callable[[], Queue]) -> Any:
    """Return what ``MODULE:NAME`` names; ``MODULE:NAME()`` calls it, with the store if it takes an argument.

    Raises:
        click.UsageError: there is no colon in it.
        Failure: it cannot be imported.
    """
    module_name, colon, name = text.partition(":")
    if not colon or not all(module_name.split(".")) or not name or "\0" in text:
        raise click.UsageError(f"{text!r} names no target; write MODULE:NAME, like app:runtime, or app:make()")
    is_call = name.endswith("()")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    value: Any = _module(module_name, text)
    for part in name.removesuffix("()").split("."):
        with _of_the_user(text):
            try:
                value = getattr(value, part)
            except AttributeError:
                raise Failure(f"cannot import {text!r}: {module_name!r} has no {part!r}") from None
    return _called(value, text, open_store) if is_call else value


def _module(module_name: str, text: str) -> Any:
    with _of_the_user(text):
        try:
            return importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
                raise
            raise Failure(
                f"cannot import {text!r}: there is no module {error.name!r} in {os.getcwd()} or on the path"
            ) from None


@contextmanager
def _of_the_user(text: str) -> Iterator[None]:
    """Run code of the user's, in which nothing ends the command but as a target that cannot be made.

    Raises:
        Failure: why it cannot; the traceback, which is of the user's code, has been told. Also of a ``SystemExit``,
            whose code is not this command's.
    """
    try:
        yield
    except (Failure, Interrupted, Terminated):
        raise
    except BaseException as error:
        click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
        code = BUSY if isinstance(error, StoreInUseError) else ERROR
        raise Failure(f"cannot import {text!r}: {type(error).__name__}: {error}", code) from error


def _takes_store(factory: Any) -> bool:
    try:
        parameters = signature(factory).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        each.default is Parameter.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        for each in parameters
    )


def _called(factory: Any, text: str, open_store: Callable[[], Queue]) -> Any:
    if not callable(factory):
        raise Failure(f"{text!r} is no factory but a {type(factory).__name__}; leave () out")
    arguments = (open_store(),) if _takes_store(factory) else ()
    with _of_the_user(text):
        return factory(*arguments)


@contextmanager
def work_of(
    text: str, store: str | None, *, threads: int | None = None, only: str | None = None, creates: bool = True
) -> Iterator[Work]:
    """Return the runtime that a target is, or is made into; the store is closed at the end.

    ``only``: the one queue that is to be served, of those that it could serve. ``creates``: it makes the store that the
    arguments name, if there is none.

    Raises:
        click.UsageError: no store is named, or the target has one of its own and the arguments name another one.
        Failure: it cannot be imported, or is no target; or there is no store.
    """
    with ExitStack() as stack:
        # A factory that takes the store gets it; the other targets are asked for their own first.
        value = imported(text, lambda: stack.enter_context(opened(store, creates=creates)))
        flows = flows_of(value)
        if flows:
            queue = bound_store(flows)
            if queue is None:
                queue = stack.enter_context(opened(store, creates=creates))
                for flow in flows:
                    flow.bind(queue)
                    stack.callback(flow.bind, None)
            chosen = tuple(flow for flow in flows if only in (None, flow.name))
            runtime = _runtime(queue, chosen or flows, text)
        elif isinstance(value, WorkflowRuntime):
            runtime = value
            queue = stack.enter_context(runtime.queue)
            flows = flows_served(runtime)
        else:
            hint = f"; a factory is called as {text}()" if isroutine(value) and not text.endswith("()") else ""
            raise Failure(
                f"{text!r} is no target but a {type(value).__name__}; it must be a WorkflowRuntime, a Flow or a list of"
                f" Flows{hint}"
            )
        _check_store(text, queue, given_store(store))
        if threads is not None:
            runtime.resize(threads)
        work = Work(text, queue, runtime, flows)
        if only is not None:
            work.queue_name(only)
        yield work


def _runtime(queue: Queue, flows: tuple[AnyFlow, ...], text: str) -> WorkflowRuntime:
    try:
        for flow in flows:
            flow.check()
        return WorkflowRuntime(queue, list(flows))
    except (TaqubaError, TypeError, ValueError) as error:
        raise Failure(f"{text!r} cannot be served: {error}") from None


def _check_store(text: str, queue: Queue, named: str | None) -> None:
    if named is None:
        return
    is_same = shown(named) == queue.address or (
        not is_url(named) and os.path.realpath(named) == os.path.realpath(queue.address)
    )
    if not is_same:
        raise click.UsageError(f"{text!r} has a store of its own, {queue.address}; leave --store {shown(named)} out")
