"""``move``."""

from __future__ import annotations

import click

from taquba_workflow_sync.cli.exit_codes import NOT_FOUND, Failure
from taquba_workflow_sync.cli.options import DURATION
from taquba_workflow_sync.cli.output import Output
from taquba_workflow_sync.queue.queue import Queue


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option(
    "--wait", type=DURATION, default=60.0, help="For how long running steps are waited for: 60s is the default."
)
@click.option("--abort", is_flag=True, help="Undo a move that has not come to its end.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
def move(source: str, target: str, wait: float, abort: bool, as_json: bool) -> None:
    """Move the store SOURCE into TARGET, one a directory, the other a URL that begins postgresql://.

    TARGET is empty, or not there yet. Nothing more is claimed from SOURCE, its running steps end, all rows go over and
    are compared; from then on SOURCE says where it went. If the steps do not end within --wait, the store goes on as
    before: exit 75, and who still runs is named.

    If this is killed, SOURCE stays closed: run the same command again, and it goes on. With --abort SOURCE is as it was
    and TARGET is empty, as long as not all was copied.
    """
    out = Output(as_json=as_json)
    if not Queue.is_store(source):
        raise Failure("there is no store at SOURCE", NOT_FOUND)  # which may have a password
    if abort:
        Queue.abort_move(source, target)
        out.record({"aborted": True}, "the move was undone: SOURCE is as it was, TARGET is empty")
        return
    rows = Queue.move(source, target, wait=wait)
    out.record(
        {"rows": rows}, f"moved {rows} rows: work on TARGET from now on; SOURCE keeps its own, and says where it went"
    )
