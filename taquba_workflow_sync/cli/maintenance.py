"""``check``, ``backup``, ``restore`` and ``purge``."""

from __future__ import annotations

import os

import click

from taquba_workflow_sync.cli.exit_codes import DONE, ERROR, NOT_FOUND, Failure
from taquba_workflow_sync.cli.options import DURATION, queue_option, store_option
from taquba_workflow_sync.cli.output import Output
from taquba_workflow_sync.cli.store import client_of, opened
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.queue.readable import spelled_out


@click.command()
@store_option
def migrate(store: str | None, as_json: bool) -> None:
    """Make the store if it is not there, upgrade it if it is of an older version, and do nothing else.

    For a store on PostgreSQL whose workers have a role that may not: run it with one that may, before they start.
    """
    out = Output(as_json=as_json)
    with opened(store, creates=True) as queue:
        out.record({"store": queue.address}, f"{queue.address} is ready")


@click.command()
@store_option
def check(store: str | None, as_json: bool) -> int:
    """Look through the whole store for damage: every page, row and payload. Reads only; others may go on working.

    Exits 1 if there is any, with a line for each, which says what to do.
    """
    out = Output(as_json=as_json)
    with opened(store) as queue:
        report = queue.check()
    out.record(report, "\n".join(map(spelled_out, report.problems)) or "nothing is wrong")
    return DONE if report.ok else ERROR


@click.command()
@click.argument("file", metavar="FILE", type=click.Path())
@store_option
def backup(file: str, store: str | None, as_json: bool) -> None:
    """Write a copy of the store, of one moment, into FILE, which is not there yet. Workers go on meanwhile.

    It is whole and on the disk when this returns. It holds all payloads: keep it as private as the store.
    """
    out = Output(as_json=as_json)
    with opened(store) as queue:
        queue.backup_file(file)
    size = os.stat(file).st_size
    out.record({"file": os.path.abspath(file), "bytes": size}, f"wrote {file}, {size} bytes")


@click.command()
@click.argument("file", metavar="FILE", type=click.Path())
@click.argument("directory", metavar="DIR", type=click.Path())
@store_option
def restore(file: str, directory: str, store: str | None, as_json: bool) -> int:
    """Make a store at DIR, which is not there yet, of the backup FILE, or of a directory that Queue.backup has written.

    Steps that were running at the moment of the backup are put back in line, and charged an attempt, as if their
    processes had been killed. The copy is then checked, as `check` does. Never run it beside the original.
    """
    out = Output(as_json=as_json)
    if not os.path.exists(file):
        raise Failure(f"there is no backup {file}", NOT_FOUND)
    Queue.restore(file, directory)
    with Queue.open(directory) as queue:
        report = queue.check()
    out.record({"store": os.path.abspath(directory), **_fields(report)}, _restored(directory, report.problems))
    return DONE if report.ok else ERROR


def _fields(report: object) -> dict[str, object]:
    return {name: getattr(report, name) for name in ("ok", "problems")}


def _restored(directory: str, problems: list[str]) -> str:
    told = "".join(f"\n{spelled_out(problem)}" for problem in problems)
    return f"restored {directory}; {'it is damaged:' if problems else 'nothing is wrong with it'}{told}"


@click.command()
@click.option("--older-than", type=DURATION, required=True, help="What ended at least so long ago: 7d, 12h.")
@queue_option
def purge(older_than: float, store: str | None, queue_name: str | None, as_json: bool) -> None:
    """Remove the runs and jobs of a queue that ended long ago, whatever their retention. What is active stays.

    Members of a group go with their group. The file does not shrink; its room is used again.
    """
    out = Output(as_json=as_json)
    with client_of(store, queue_name) as client:
        many = client.queue.purge(client.queue_name, older_than)
        out.record({"queue": client.queue_name, "purged": many}, f"purged {many}")
