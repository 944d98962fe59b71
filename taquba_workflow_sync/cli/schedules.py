"""``schedules``: runs that are submitted again and again by whoever serves the queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import click

from taquba_workflow_sync.cli.exit_codes import Failure
from taquba_workflow_sync.cli.group import Lazy, LazyGroup
from taquba_workflow_sync.cli.options import DURATION, FUTURE, PAIR, queue_option, target_option
from taquba_workflow_sync.cli.output import Column, Output, when
from taquba_workflow_sync.cli.payloads import given_bytes, spec_of_bytes
from taquba_workflow_sync.cli.store import client_of
from taquba_workflow_sync.cli.targets import work_of
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.schedule import Schedule
from taquba_workflow_sync.workflow.spec import RunSpec

_COMMANDS: Final = {
    "list": Lazy("schedules", "list_schedules", "List the schedules of a queue."),
    "add": Lazy("schedules", "add", "Define a schedule, in the place of the one of its name."),
    "remove": Lazy("schedules", "remove", "Remove a schedule; its runs stay."),
    "pause": Lazy("schedules", "pause", "Have a schedule not fire until it is resumed."),
    "resume": Lazy("schedules", "resume", "Have a paused schedule go on from now."),
    "trigger": Lazy("schedules", "trigger", "Submit a run of a schedule now."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def schedules() -> None:
    """List, add, remove, pause, resume and trigger the schedules of a queue."""


@click.command("list")
@queue_option
def list_schedules(store: str | None, queue_name: str | None, as_json: bool) -> None:
    """List the schedules of a queue by name. With --json each line has the fields of Schedule."""
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        out.table(client.schedules(), _COLUMNS, empty="no schedules")


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--cron", metavar="EXPR", help="When: five fields, like '15 3 * * *', or @daily.")
@click.option("--every", type=DURATION, help="When: at an interval of at least a second.")
@click.option("--timezone", default="UTC", show_default=True, help="Of --cron: a name like Europe/Berlin.")
@click.option("--input", "given", metavar="-|@FILE|JSON|TEXT", help="What each run is given; - is stdin.")
@click.option("--header", "headers", type=PAIR, multiple=True, help="A header of each run; may be repeated.")
@click.option("--priority", type=int, help="Lower goes first.")
@click.option("--max-attempts", type=click.IntRange(1), help="Attempts of each step.")
@click.option("--limit-key", metavar="KEY", help="What each run is limited by.")
@click.option("--catch-up", type=click.Choice(("one", "all", "none")), default="one", show_default=True)
@click.option("--overlap", type=click.Choice(("allow", "skip")), default="allow", show_default=True)
@click.option("--start", type=FUTURE, help="Not before.")
@click.option("--until", type=FUTURE, help="Not at or after.")
@target_option
@queue_option
def add(
    name: str,
    cron: str | None,
    every: float | None,
    timezone: str,
    given: str | None,
    headers: tuple[tuple[str, str], ...],
    priority: int | None,
    max_attempts: int | None,
    limit_key: str | None,
    catch_up: str,
    overlap: str,
    start: datetime | None,
    until: datetime | None,
    target: str | None,
    store: str | None,
    queue_name: str | None,
    as_json: bool,
) -> None:
    """Define the schedule NAME; whoever serves the queue fires it, each moment once.

    The same definition again changes nothing; another one replaces it and begins now.
    """
    out = Output(as_json=as_json)
    fields = {
        "headers": dict(headers), "priority": priority, "max_attempts_per_step": max_attempts, "limit_key": limit_key,
    }  # fmt: skip
    with _client_and_spec(target, store, queue_name, given, fields) as (client, spec):
        try:
            client.schedule(
                name,
                cron=cron,
                every=every,
                timezone=timezone,
                spec=spec,
                catch_up=catch_up,
                overlap=overlap,
                start=start,
                until=until,
            )
        except ImportError as error:
            raise Failure(str(error)) from None
        except (TypeError, ValueError) as error:
            raise click.UsageError(str(error)) from None
        schedule = next(each for each in client.schedules() if each.name == name)
        fires = "does not fire" if schedule.next_at is None else f"fires next at {when(schedule.next_at)}"
        out.record(schedule, f"{name} {fires}")


@contextmanager
def _client_and_spec(
    target: str | None, store: str | None, queue_name: str | None, given: str | None, fields: dict[str, Any]
) -> Iterator[tuple[WorkflowClient, RunSpec]]:
    if target is not None:
        with work_of(target, store) as work:
            yield work.client(queue_name), work.spec(given, fields, queue_name)
        return
    spec = spec_of_bytes(given_bytes(given), fields)
    with client_of(store, queue_name, creates=True) as client:
        yield client, spec


@click.command()
@click.argument("name", metavar="NAME")
@queue_option
def remove(name: str, store: str | None, queue_name: str | None, as_json: bool) -> None:
    """Remove the schedule NAME; its runs stay."""
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        client.unschedule(name)
        out.record({"name": name, "removed": True}, f"{name} is removed")


@click.command()
@click.argument("name", metavar="NAME")
@queue_option
def pause(name: str, store: str | None, queue_name: str | None, as_json: bool) -> None:
    """Have the schedule NAME not fire until it is resumed."""
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        client.pause_schedule(name)
        out.record({"name": name, "paused": True}, f"{name} is paused")


@click.command()
@click.argument("name", metavar="NAME")
@queue_option
def resume(name: str, store: str | None, queue_name: str | None, as_json: bool) -> None:
    """Have the paused schedule NAME go on from now, without what it has missed."""
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        client.resume_schedule(name)
        out.record({"name": name, "paused": False}, f"{name} goes on")


@click.command()
@click.argument("name", metavar="NAME")
@queue_option
def trigger(name: str, store: str | None, queue_name: str | None, as_json: bool) -> None:
    """Submit a run of the schedule NAME now, paused or not, and print its id."""
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        run_id = client.trigger(name)
        out.record({"name": name, "run_id": run_id}, run_id)


def _when(schedule: Schedule) -> str:
    if schedule.cron is not None:
        return f"{schedule.cron} {schedule.timezone}"
    return "" if schedule.every is None else f"every {schedule.every}"


_COLUMNS: Final[tuple[Column, ...]] = (
    Column("NAME", lambda schedule: schedule.name),
    Column("WHEN", _when),
    Column("NEXT", lambda schedule: "paused" if schedule.paused else schedule.next_at),
    Column("LAST RUN", lambda schedule: schedule.last_run_id),
)
