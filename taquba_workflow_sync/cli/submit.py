"""``submit``: puts a run in line, and waits for it if asked to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from taquba_workflow_sync.cli.exit_codes import DONE
from taquba_workflow_sync.cli.names import run_id_at
from taquba_workflow_sync.cli.options import DURATION, FUTURE, PAIR, queue_option
from taquba_workflow_sync.cli.outcomes import answer, wait_for
from taquba_workflow_sync.cli.output import Output
from taquba_workflow_sync.cli.payloads import given_bytes, spec_of_bytes
from taquba_workflow_sync.cli.store import client_of
from taquba_workflow_sync.cli.targets import work_of
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.workflow.client import RunHandle, WorkflowClient

_F = TypeVar("_F", bound=Callable[..., Any])


def spec_options(command: _F) -> _F:
    """Take what a submit says besides its input."""
    for option in reversed(
        (
            click.option("--run-id", metavar="ID", help="Names the run: a repeat is the same run. {date}, {hour}, ..."),
            click.option("--input", "given", metavar="-|@FILE|JSON|TEXT", help="What the run is given; - is stdin."),
            click.option("--header", "headers", type=PAIR, multiple=True, help="A header; may be repeated."),
            click.option("--priority", type=int, help="Lower goes first; default 1000."),
            click.option("--max-attempts", type=click.IntRange(1), help="Attempts of each step."),
            click.option("--run-at", type=FUTURE, help="Not before: 2026-11-27T03:15, or 2h (from now)."),
            click.option("--deadline", type=DURATION, help="Has failed if it has not ended so long after the submit."),
            click.option("--expires-after", type=DURATION, help="Is cancelled if it has not started by then."),
            click.option("--step-timeout", type=DURATION, help="How long a step may take."),
            click.option("--limit-key", metavar="KEY", help="What it is limited by, beside its queue."),
            click.option(
                "--if-finished",
                type=click.Choice([each.value for each in IfFinished]),
                default=IfFinished.KEEP.value,
                show_default=True,
                help="What a submit does where a run of that id has ended.",
            ),
        )
    ):
        command = option(command)
    return command


def fields_of(
    run_id: str | None,
    headers: tuple[tuple[str, str], ...],
    priority: int | None,
    max_attempts: int | None,
    run_at: datetime | None,
    deadline: float | None,
    expires_after: float | None,
    step_timeout: float | None,
    limit_key: str | None,
    if_finished: str,
) -> dict[str, Any]:
    """Return the fields of a run's spec, but for its input."""
    return {
        "run_id": None if run_id is None else run_id_at(run_id, datetime.now().astimezone()),
        "headers": dict(headers),
        "priority": priority,
        "max_attempts_per_step": max_attempts,
        "run_at": run_at,
        "deadline": None if deadline is None else timedelta(seconds=deadline),
        "expires_after": expires_after,
        "step_timeout": step_timeout,
        "limit_key": limit_key,
        "if_finished": IfFinished(if_finished),
    }


@contextmanager
def _submitted(
    target: str | None, store: str | None, queue_name: str | None, given: str | None, fields: dict[str, Any]
) -> Iterator[tuple[WorkflowClient, RunHandle]]:
    """Submit a run, and have the store open meanwhile."""
    if target is not None:
        with work_of(target, store) as work:
            client = work.client(queue_name)
            yield client, client.submit(work.spec(given, fields, queue_name))
    elif queue_name is None:
        raise click.UsageError("name a TARGET, or a queue with --queue")
    else:
        spec = spec_of_bytes(given_bytes(given), fields)
        with client_of(store, queue_name, creates=True) as client:
            yield client, client.submit(spec)


@click.command()
@click.argument("target", metavar="[TARGET]", required=False)
@spec_options
@click.option("--wait", is_flag=True, help="Wait for it to end, and print its result instead of its id.")
@click.option("--timeout", type=DURATION, help="With --wait: exit 75 if it has not ended in that time; it goes on.")
@queue_option
def submit(
    target: str | None,
    given: str | None,
    wait: bool,
    timeout: float | None,
    store: str | None,
    queue_name: str | None,
    as_json: bool,
    **fields: Any,
) -> int:
    """Submit a run to TARGET, or to the queue that --queue names, and print its id.

    A submit with a --run-id is safe to repeat: the same id with the same input is the same run. With --wait the result
    goes to stdout; a failed run's error goes to stderr, and the exit code is 3.
    """
    out = Output(as_json=as_json)
    with _submitted(target, store, queue_name, given, fields_of(**fields)) as (client, handle):
        if wait:
            return answer(out, wait_for(client, handle.run_id, timeout))
        out.record(handle, handle.run_id)
        return DONE
