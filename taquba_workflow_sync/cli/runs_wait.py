"""``runs wait`` and ``runs tail``."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import click

from taquba_workflow_sync.cli.exit_codes import NOT_FOUND, Failure
from taquba_workflow_sync.cli.options import DURATION, queue_option
from taquba_workflow_sync.cli.outcomes import answer, code_of, wait_for
from taquba_workflow_sync.cli.output import Output, when
from taquba_workflow_sync.cli.store import client_of
from taquba_workflow_sync.errors import RunNotFoundError
from taquba_workflow_sync.outcome import RunOutcome
from taquba_workflow_sync.queue.readable import spelled_out
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.history import RunEvent

_TICK: Final = 0.25


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--timeout", type=DURATION, help="Exit 75 if it has not ended in that time; it goes on.")
@queue_option
def wait(run_id: str, timeout: float | None, store: str | None, queue_name: str | None, as_json: bool) -> int:
    """Wait for RUN to end, in whichever process, and print its result.

    Of a failed or cancelled run the error goes to stderr, and the exit code is 3.
    """
    with client_of(store, queue_name) as client:
        return answer(Output(as_json=as_json), wait_for(client, run_id, timeout))


@click.command()
@click.argument("run_id", metavar="RUN")
@queue_option
def tail(run_id: str, store: str | None, queue_name: str | None, as_json: bool) -> int:
    """Print what has happened to RUN and what happens, until it ends; exits as `wait` does.

    With --json each line is an event, its fields those of RunEvent.
    """
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        told: list[RunEvent] = []
        while True:
            ended: RunOutcome | None = None  # before the events: the last of them is there once it has ended
            with suppress(TimeoutError):
                ended = client.wait(run_id, timeout=_TICK)
            try:
                for event in _news(client, run_id, told):
                    out.record(event, event_text(event))
            except RunNotFoundError:
                if ended is None:
                    raise Failure(f"run {run_id} is kept no longer", NOT_FOUND) from None
            if ended is not None:
                return code_of(ended)


def _news(client: WorkflowClient, run_id: str, told: list[RunEvent]) -> list[RunEvent]:
    """Return the events that are new, and note them as told; a long history is told from its end only."""
    events = client.history(run_id)
    last = told[-1] if told else None
    known = len(events) - events[::-1].index(last) if last in events else 0
    told[:] = events[-1:]
    return events[known:]


def event_text(event: RunEvent) -> str:
    """Return an event as a line."""
    attempt = "" if event.attempt is None else f" attempt {event.attempt}"
    by = "" if event.pid is None or event.kind != "started" else f" by {event.host}:{event.pid}"
    said = "".join(f" {word}" for word in (event.outcome, event.detail) if word)
    error = f": {spelled_out(event.error)}" if event.error else ""
    return f"{when(event.at)}  step {event.step}{attempt} {event.kind.value}{said}{by}{error}"
