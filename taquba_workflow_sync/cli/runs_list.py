"""``runs list``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import click

from taquba_workflow_sync.cli.options import filter_options, queue_option
from taquba_workflow_sync.cli.output import Column, Output
from taquba_workflow_sync.cli.store import client_of
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.status import RunStatus

_PAGE = 1000


@click.command("list")
@filter_options
@click.option("--newest-first", is_flag=True, help="The newest first, instead of in the order of submission.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@click.option("--all", "no_limit", is_flag=True, help="All of them, whatever --limit says.")
@queue_option
def list_runs(
    newest_first: bool,
    limit: int,
    no_limit: bool,
    store: str | None,
    queue_name: str | None,
    as_json: bool,
    **filters: Any,
) -> None:
    """List the runs of a queue in the order of their submission.

    What is given narrows it, all of it together. With --json each line is a run, its fields those of RunStatus.
    """
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        runs = found(client, newest_first=newest_first, **filters)
        # One more than is shown, to know whether there are more.
        some = runs if no_limit else list(islice(runs, limit + 1))
        out.table(some if no_limit else islice(some, limit), _COLUMNS, empty="no runs")
        if isinstance(some, list) and len(some) > limit:
            out.note(f"there are more than these {limit}: --limit N, or --all")


def found(client: WorkflowClient, **filters: Any) -> Iterator[RunStatus]:
    """Go through the runs that filters find, page after page."""
    cursor: str | None = None
    while True:
        page = client.list_runs(limit=_PAGE, cursor=cursor, **filters)
        yield from page.runs
        cursor = page.next_cursor
        if cursor is None:
            return


def step_name(run: RunStatus) -> str:
    """Return what a run's step is called: its label, else its number."""
    return str(run.current_step) if run.label is None else f"{run.current_step} {run.label}"


def _why(run: RunStatus) -> str:
    if run.state == "pending" and run.waiting_for is not None:
        return f"waits for {run.waiting_for}"
    if run.progress is not None:
        return progress_text(run)
    return run.error or ""


def progress_text(run: RunStatus) -> str:
    """Return how far a run's step is."""
    if run.progress is None:
        return ""
    total = "" if run.progress.total is None else f"/{run.progress.total:g}"
    return f"{run.progress.done:g}{total} {run.progress.note}".rstrip()


_COLUMNS = (
    Column("RUN", lambda run: run.run_id),
    Column("STATE", lambda run: run.state.value),
    Column("STEP", step_name),
    Column("ATTEMPTS", lambda run: run.attempts),
    Column("SUBMITTED", lambda run: run.submitted_at),
    Column("FINISHED", lambda run: run.finished_at),
    Column("", _why),
)
