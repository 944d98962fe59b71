"""Working with a runtime until it is idle, is told to stop, or has worked long enough."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final

import click

from taquba_workflow_sync.cli.exit_codes import DONE
from taquba_workflow_sync.cli.notify import notify
from taquba_workflow_sync.cli.stopping import Stop
from taquba_workflow_sync.workflow.runtime import WorkflowRuntime
from taquba_workflow_sync.workflow.status import RunCounts

_TICK: Final = 0.05


def work_until_idle(
    runtime: WorkflowRuntime,
    stop: Stop,
    *,
    max_runtime: float | None,
    grace: float | None,
    parent: int | None = None,
    on_tick: Callable[[], None] = lambda: None,
) -> RunCounts:
    """Run steps until nothing is left to do, or it is told to stop; returns what was done.

    On a thread of its own, so that a signal meets a thread that holds nothing. ``parent``: a process without which it
    is to stop, too.
    """
    counts: list[RunCounts] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            counts.append(runtime.run_until_idle(max_runtime))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="until-idle")
    thread.start()
    notify("READY=1")
    try:
        while thread.is_alive() and not (stop.is_asked or _is_without(parent)):
            thread.join(_TICK)
            on_tick()
    finally:
        if thread.is_alive():
            _begin_to_stop(runtime)
        # More than once: what has not begun yet cannot be stopped, and begins after a stop that came before.
        while thread.is_alive():
            end(runtime, grace)
            thread.join(_TICK)
    if errors:
        raise errors[0]
    return counts[0]


def _is_without(parent: int | None) -> bool:
    return parent is not None and os.getppid() != parent


def work_on(
    runtime: WorkflowRuntime,
    stop: Stop,
    *,
    max_runtime: float | None,
    max_runs: int | None,
    grace: float | None,
    parent: int | None = None,
    on_tick: Callable[[], None] = lambda: None,
) -> None:
    """Run steps until it is told to stop, or has worked for so long, or so many runs have ended here.

    ``parent``: a process without which it is to end, too.
    """
    deadline = None if max_runtime is None else time.monotonic() + max_runtime
    pause = threading.Event()
    runtime.start()
    notify("READY=1")
    try:
        while not stop.is_asked:
            pause.wait(_TICK)
            on_tick()
            if deadline is not None and time.monotonic() >= deadline:
                break
            if max_runs is not None and runtime.ended_runs >= max_runs:
                break
            if _is_without(parent):
                break
            error = runtime.error
            if error is not None:
                raise error
    finally:
        _begin_to_stop(runtime)
        end(runtime, grace)


def _begin_to_stop(runtime: WorkflowRuntime) -> None:
    """Have it claim nothing more, and say so."""
    runtime.stop(0)
    notify("STOPPING=1")
    if sys.stderr.isatty():
        click.echo("stopping: the steps that run may end; a second signal ends at once", err=True)


def end(runtime: WorkflowRuntime, grace: float | None) -> None:
    """Stop a runtime; what still runs after ``grace`` seconds ends with the process, and is repeated by others."""
    # On a thread of its own: a second signal may be delivered to any thread, and its handler runs once the main one
    # does something, which in a wait without an end it does not.
    with ThreadPoolExecutor(1) as waiting:
        has_ended = waiting.submit(runtime.stop, grace)
        while not has_ended.done():
            wait([has_ended], _TICK)
    if has_ended.result():
        return
    click.echo("the grace is over: steps that still run are cut off, and run again elsewhere", err=True)
    sys.stdout.flush()
    # Python would wait for the threads of the steps.
    os._exit(DONE)
