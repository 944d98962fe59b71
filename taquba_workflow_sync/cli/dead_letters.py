"""``dead list``, ``show``, ``requeue`` and ``drop``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

import click

from taquba_workflow_sync.cli.exit_codes import DONE
from taquba_workflow_sync.cli.options import PAIR, PAST, queue_option, yes_option
from taquba_workflow_sync.cli.output import Column, Output, confirm, when
from taquba_workflow_sync.cli.payloads import shown
from taquba_workflow_sync.cli.store import client_of
from taquba_workflow_sync.errors import InvalidNameError, InvalidStateError, JobNotFoundError
from taquba_workflow_sync.queue.paging import in_pieces
from taquba_workflow_sync.queue.readable import spelled_out
from taquba_workflow_sync.queue.records import JobRecord, record_of
from taquba_workflow_sync.storage.port.headers import HEADER_RUN_ID
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.selection import selection

_F = TypeVar("_F", bound=Callable[..., Any])

_PAGE: Final = 500
_COUNTED: Final = 1000


def _filters(command: _F) -> _F:
    for option in reversed(
        (
            click.option("--prefix", metavar="TEXT", help="Of runs whose id begins so."),
            click.option("--header", type=PAIR, help="With this header."),
            click.option("--since", type=PAST, help="Put in at or after: 2026-11-26T03:15, or 2h (ago)."),
            click.option("--until", type=PAST, help="Put in before."),
            click.option("--failed-with", metavar="TEXT", help="Of runs that failed with an error that contains this."),
            click.option("--parent", metavar="RUN", help="That this run has spawned."),
        )
    ):
        command = option(command)
    return command


def _which(filters: dict[str, Any]) -> Filter:
    return replace(selection(**filters), status=JobStatus.DEAD, runs_only=False, visible_only=False)


def _found(client: WorkflowClient, which: Filter) -> Iterator[JobRecord]:
    cursor: str | None = None
    while True:
        page = client.queue.handle.page(client.queue_name, which, _PAGE, cursor)
        yield from (record_of(row) for row in page.rows)
        cursor = page.next_cursor
        if cursor is None:
            return


def _job(client: WorkflowClient, name: str) -> JobRecord:
    """Return what a name means: the newest run that is called so, else the job of that id.

    Raises:
        JobNotFoundError: neither is there.
    """
    try:
        run = client.status(name)
        job = client.queue.get_job(name if run is None else run.job_id)
    except InvalidNameError:
        job = None
    if job is None:
        raise JobNotFoundError(f"queue {client.queue_name!r} has no run, and the store no job {name!r}")
    return job


@click.command("list")
@_filters
@click.option("--newest-first", is_flag=True, help="The newest first, instead of in the order they were put in.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@queue_option
def list_dead(limit: int, store: str | None, queue_name: str | None, as_json: bool, **filters: Any) -> None:
    """List the dead letters of a queue. With --json each line is a job, its fields those of JobRecord."""
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        out.table(islice(_found(client, _which(filters)), limit), _COLUMNS, empty="no dead letters")


@click.command()
@click.argument("name", metavar="ID")
@click.option("--full", is_flag=True, help="The whole payload.")
@queue_option
def show(name: str, full: bool, store: str | None, queue_name: str | None, as_json: bool) -> None:
    """Show the dead letter ID: its error, its attempts, its payload."""
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        job = _dead(_job(client, name))
        attempts = client.queue.attempt_history(job.id)
        if as_json:
            fields = {each: getattr(job, each) for each in job.__dataclass_fields__}
            out.record({**fields, "attempt_history": attempts})
            return
        click.echo(f"{job.id}  dead")
        for what, text in (
            ("queue", job.queue), ("run", _run(job)), ("step", str(job.step)),
            ("attempts", f"{job.attempts} of {job.max_attempts}"), ("put in", when(job.enqueued_at)),
            ("died", when(job.failed_at)), ("error", job.last_error or ""),
        ):  # fmt: skip
            if text:
                click.echo(f"  {what:<12} {spelled_out(text)}")
        for each in attempts:
            error = f": {each.error}" if each.error else ""
            text = f"step {each.step} attempt {each.attempt} {when(each.claimed_at)} {each.outcome.value}{error}"
            click.echo(f"    {spelled_out(text)}")
        click.echo("\npayload")
        click.echo("\n".join(f"  {spelled_out(line)}" for line in shown(job.payload, is_full=full).splitlines()))
        click.echo(f"\nwhat to do next\n  mend the cause, then: taquba-workflow dead requeue {name}")


def _dead(job: JobRecord) -> JobRecord:
    if job.status is not JobStatus.DEAD:
        how = "has failed by its own verdict; runs retry puts it back" if job.failed_at else f"is {job.status.value}"
        raise InvalidStateError(f"job {job.id} is no dead letter: it {how}")
    return job


def _run(job: JobRecord) -> str:
    return job.headers.get(HEADER_RUN_ID, "")


def _one_of(names: tuple[str, ...], filters: dict[str, Any], every: bool) -> bool:
    given = any(value is not None for value in filters.values())
    if bool(names) + given + every != 1:
        raise click.UsageError("say which dead letters: by their ids, by filters, or --all; one of the three")
    return bool(names)


def _ask(client: WorkflowClient, which: Filter, do: str, *, is_agreed: bool) -> None:
    if not is_agreed:
        many = sum(1 for _ in islice(_found(client, which), _COUNTED + 1))
        count = f"more than {_COUNTED}" if many > _COUNTED else str(many)
        confirm(f"{do} {count} dead letter{'s' * (many != 1)} of queue {client.queue_name}?", is_agreed=False)


@click.command()
@click.argument("names", metavar="[ID]...", nargs=-1)
@_filters
@click.option("--all", "every", is_flag=True, help="Every dead letter of the queue.")
@yes_option
@queue_option
def requeue(
    names: tuple[str, ...],
    every: bool,
    yes: bool,
    store: str | None,
    queue_name: str | None,
    as_json: bool,
    **filters: Any,
) -> int:
    """Put dead letters back in line, with all their attempts: those named, or all that the filters find; that asks
    first. A run goes on at the step that failed.
    """
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        if _one_of(names, filters, every):
            for job in [_dead(_job(client, name)) for name in names]:
                client.queue.requeue_dead_job(job.id)
                out.record({"id": job.id, "requeued": True}, f"{_run(job) or job.id} is in line again")
            return DONE
        which = _which(filters)
        _ask(client, which, "Requeue", is_agreed=yes)
        many = sum(_requeued(client, job.id) for job in _found(client, which))
        out.record({"requeued": many}, f"requeued {many}")
        return DONE


def _requeued(client: WorkflowClient, job_id: str) -> bool:
    try:
        client.queue.requeue_dead_job(job_id)
    except (InvalidStateError, JobNotFoundError):
        return False  # its run is active again, or somebody was faster
    return True


@click.command()
@click.argument("names", metavar="[ID]...", nargs=-1)
@_filters
@click.option("--all", "every", is_flag=True, help="Every dead letter of the queue.")
@yes_option
@queue_option
def drop(
    names: tuple[str, ...],
    every: bool,
    yes: bool,
    store: str | None,
    queue_name: str | None,
    as_json: bool,
    **filters: Any,
) -> int:
    """Remove dead letters, with their payloads and histories, for good: those named, or all that the filters find;
    that asks first. Members of a group stay until their group goes.
    """
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        if _one_of(names, filters, every):
            for job in [_dead(_job(client, name)) for name in names]:
                client.queue.drop_dead_job(job.id)
                out.record({"id": job.id, "dropped": True}, f"{_run(job) or job.id} is gone")
            return DONE
        which = _which(filters)
        _ask(client, which, "Drop", is_agreed=yes)
        many = in_pieces(partial(client.queue.handle.remove_some, client.queue_name, which))
        out.record({"dropped": many}, f"dropped {many}")
        return DONE


_COLUMNS: Final = (
    Column("JOB", lambda job: job.id),
    Column("RUN", _run),
    Column("STEP", lambda job: job.step),
    Column("ATTEMPTS", lambda job: job.attempts),
    Column("DIED", lambda job: job.failed_at),
    Column("ERROR", lambda job: job.last_error),
)
