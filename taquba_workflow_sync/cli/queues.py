"""``queues``, ``stats``, ``pause`` and ``resume``."""

from __future__ import annotations

import sys
import threading
from operator import attrgetter
from typing import Any, Final

import click

from taquba_workflow_sync.cli.exit_codes import DONE
from taquba_workflow_sync.cli.options import DURATION, queue_option, store_option
from taquba_workflow_sync.cli.output import Column, Output, is_plain, plain, rich_table
from taquba_workflow_sync.cli.store import client_of, opened
from taquba_workflow_sync.workflow.client import WorkflowClient

_COUNTERS: Final = ("pending", "scheduled", "claimed", "done", "dead", "cancelled")


@click.command()
@store_option
def queues(store: str | None, as_json: bool) -> None:
    """List the queues of the store with their counters. With --json each line has the fields of QueueStats."""
    out = Output(as_json=as_json)
    with opened(store) as queue:
        stats = [queue.stats(name) for name in queue.list_queues()]
        columns = [Column("QUEUE", lambda each: each.queue)]
        columns += [Column(name.upper(), attrgetter(name)) for name in _COUNTERS]
        columns.append(Column("", lambda each: "paused" if each.paused else ""))
        out.table(stats, columns, empty="no queues")


@click.command()
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C; a pipe gets the counters again and again.")
@click.option("--interval", type=DURATION, default=1.0, help="How often, with --watch; default 1s.")
@queue_option
def stats(watch: bool, interval: float, store: str | None, queue_name: str | None, as_json: bool) -> int:
    """Show the counters of a queue: its jobs by status, its runs by state.

    With --json one line has the fields of QueueStats, and `runs`. `done` and `cancelled` count all that ever ended so.
    """
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        if not watch:
            _tell(out, _counters(client))
            return DONE
        try:
            _watch(out, client, interval)
        except KeyboardInterrupt:
            pass  # the way to end it
        return DONE


def _counters(client: WorkflowClient) -> dict[str, Any]:
    return {**plain(client.queue.stats(client.queue_name)), "runs": plain(client.count_runs())}


def _rows(counters: dict[str, Any]) -> list[tuple[str, object]]:
    jobs = [(name, counters[name]) for name in _COUNTERS]
    return [*jobs, ("paused", "yes" if counters["paused"] else "no")] + [
        (f"runs {state}", many) for state, many in counters["runs"].items()
    ]


def _tell(out: Output, counters: dict[str, Any]) -> None:
    if out.as_json:
        out.record(counters)
        return
    columns = [Column(str(counters["queue"]), lambda row: row[0]), Column("", lambda row: row[1])]
    out.table(_rows(counters), columns, empty="")


def _watch(out: Output, client: WorkflowClient, interval: float) -> None:
    pause = threading.Event()
    if out.as_json or is_plain(sys.stdout):
        while True:
            _tell(out, _counters(client))
            sys.stdout.flush()
            pause.wait(interval)
    from rich.live import Live  # on a terminal only

    with Live(auto_refresh=False) as live:
        while True:
            rows = [(name, str(value)) for name, value in _rows(_counters(client))]
            live.update(rich_table([client.queue_name, ""], rows), refresh=True)
            pause.wait(interval)


@click.command()
@queue_option
def pause(store: str | None, queue_name: str | None, as_json: bool) -> None:
    """Have nothing new be claimed from a queue, in any process, until `resume`. Steps that run end."""
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        client.pause()
        out.record({"queue": client.queue_name, "paused": True}, f"{client.queue_name} is paused")


@click.command()
@queue_option
def resume(store: str | None, queue_name: str | None, as_json: bool) -> None:
    """End a pause."""
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        client.resume()
        out.record({"queue": client.queue_name, "paused": False}, f"{client.queue_name} goes on")
