"""A client process: submits, waits, cancels; needs no runner."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path

from taquba_workflow_sync import Queue, WorkflowClient
from tests.processes.harness import Witness, say
from tests.processes.plans import planned


def submit(client: WorkflowClient, prefix: str, many: str, plan: str, attempts: str) -> None:
    """Submit runs one by one (``0``: for ever, some 40 a second); say so of each once its submit has returned."""
    for number in range(int(many)) if int(many) else itertools.count():
        handle = client.submit(planned(f"{prefix}-{number}", plan, max_attempts=int(attempts)))
        say("acknowledged", handle.run_id)
        if not int(many):
            time.sleep(0.02)  # a load that the workers can bear


def at_once(client: WorkflowClient, prefix: str, many: str, plan: str) -> None:
    """Wait for a line, then submit."""
    say("ready")
    sys.stdin.readline()
    submit(client, prefix, many, plan, "3")


def wait(client: WorkflowClient, run_id: str) -> None:
    say("waiting")
    outcome = client.wait(run_id, timeout=120)
    say("outcome", outcome.status, outcome.error)


def cancel(client: WorkflowClient, run_id: str) -> None:
    """Cancel when told to, and say when that began."""
    say("ready")
    sys.stdin.readline()
    began = time.monotonic()
    say("cancelled", client.cancel(run_id), began)


COMMANDS: dict[str, Callable[..., None]] = {"submit": submit, "at_once": at_once, "wait": wait, "cancel": cancel}


def main() -> None:
    store, log, command, *arguments = sys.argv[1:]
    with Queue.open(store) as queue:
        COMMANDS[command](WorkflowClient(queue), *arguments)
    Witness(Path(log)).close()


if __name__ == "__main__":
    main()
