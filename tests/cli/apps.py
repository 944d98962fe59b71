"""What the commands of these tests work with."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from taquba_workflow_sync import (
    Continue,
    ContinueAfter,
    ContinueOnSignal,
    Fail,
    Queue,
    QueueConfig,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)
from tests.support import PATIENCE, await_event

#: What a step that purges waits for.
MAY_PURGE = threading.Event()


def step(step: Step) -> StepOutcome:
    """Do what the payload says."""
    word, _, rest = step.payload.decode(errors="replace").partition(" ")
    match word:
        case "dead":
            raise StepError.permanent(rest or "no such account")
        case "fail":
            return Fail(rest or "no")
        case "later":
            return ContinueAfter(b"", delay=3600)
        case "ask":
            return ContinueOnSignal(b"got", "answer") if step.signal is None else Succeed(step.signal.payload)
        case "got":
            return Succeed(step.signal.payload if step.signal else b"")
        case "two":
            return Continue(b"done")
        case "print":
            print("a step says this")
            return Succeed()
        case "file" | "hold":
            # Says that it runs, and by whom, and goes on when it is told to.
            path = Path(rest)
            path.write_text(str(os.getpid()))
            while not path.with_suffix(".go").exists():
                threading.Event().wait(0.01)
            return Succeed(b"released") if word == "file" else Continue(b"")
        case "kill":
            if step.attempts == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return Succeed(b"alive")
        case "purge":
            # Once the run named has ended, and something else has happened, nothing of it is left.
            store, run_id = rest.split()
            with Queue.open(store) as queue:
                WorkflowClient(queue).wait(run_id, timeout=PATIENCE)
                await_event(MAY_PURGE)
                queue.purge("workflow-steps", 0)
            return Succeed(b"purged")
        case "exit":
            if step.attempts == 1:
                os._exit(int(rest))
            return Succeed(b"alive")
        case _:
            return Succeed(step.payload.upper())


def runtime(queue: Queue) -> WorkflowRuntime:
    """A factory that takes the store."""
    return WorkflowRuntime(queue, step)


def forgetful(queue: Queue) -> WorkflowRuntime:
    """A factory of one whose runs show no longer once they have ended."""
    return WorkflowRuntime(queue, step, keep_runs=None)


def own_store() -> WorkflowRuntime:
    """A factory with a store of its own."""
    return WorkflowRuntime(
        Queue.open(os.environ["OWN_STORE"], default_config=QueueConfig(max_attempts=2, retry_backoff_base=0.01)), step
    )


def broken() -> WorkflowRuntime:
    """A factory that fails."""
    raise ZeroDivisionError("made so")


def ends() -> WorkflowRuntime:
    """A factory that ends the process, and says that all is well."""
    sys.exit(0)


def interrupts() -> WorkflowRuntime:
    """A factory that ends as a Ctrl-C would."""
    raise KeyboardInterrupt


class OddError(BaseException):
    """An error that no `except Exception` sees."""


def odd() -> WorkflowRuntime:
    """A factory that raises one."""
    raise OddError("odd")


def __getattr__(name: str) -> object:
    if name == "lazy":
        sys.exit(0)
    raise AttributeError(name)
