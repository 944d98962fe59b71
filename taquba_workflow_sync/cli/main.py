"""The commands of ``taquba-workflow``, by name."""

from __future__ import annotations

from typing import Final

import click

import taquba_workflow_sync
from taquba_workflow_sync.cli.group import Lazy, LazyGroup

_COMMANDS: Final = {
    "worker": Lazy("worker", "worker", "Run the steps of a target's queues until it is told to stop."),
    "run": Lazy("run", "run", "Submit a run, work until nothing is left to do, exit by that run. For cron."),
    "submit": Lazy("submit", "submit", "Submit a run and print its id."),
    "runs": Lazy("runs", "runs", "List, show, wait for, cancel, retry, signal and wake runs."),
    "dead": Lazy("dead", "dead", "List, show, requeue and drop dead letters."),
    "queues": Lazy("queues", "queues", "List the queues of the store."),
    "stats": Lazy("queues", "stats", "Show the counters of queues, and go on with --watch."),
    "health": Lazy("health", "health", "Say whether a queue is healthy; exits 3 if it is not."),
    "console": Lazy("console", "console", "Serve pages about the store to a browser."),
    "doctor": Lazy("doctor", "doctor", "Look at this machine and the store, and say what to do."),
    "migrate": Lazy("maintenance", "migrate", "Make the store, or upgrade it, and do nothing else."),
    "check": Lazy("maintenance", "check", "Look through the whole store for damage."),
    "backup": Lazy("maintenance", "backup", "Write a copy of the store into a file, while workers go on."),
    "restore": Lazy("maintenance", "restore", "Make a store of a backup, in a new directory."),
    "move": Lazy("move", "move", "Move the store between a directory and PostgreSQL."),
    "purge": Lazy("maintenance", "purge", "Remove what has ended long ago."),
    "schedules": Lazy("schedules", "schedules", "List, add, remove, pause, resume and trigger schedules."),
    "limits": Lazy("limits", "limits", "List, set and clear limits."),
    "pause": Lazy("queues", "pause", "Have nothing new be claimed from a queue, in any process."),
    "resume": Lazy("queues", "resume", "End a pause."),
}


@click.group(
    cls=LazyGroup,
    lazy=_COMMANDS,
    epilog="Exit codes: 0 done, 1 error, 2 wrong usage, 3 it worked but something needs a human, 4 not found, 75 busy"
    " (try again later), 130 ended by Ctrl-C or at once by a second signal, 143 ended by SIGTERM."
    " `taquba-workflow COMMAND --help` tells more.",
)
@click.version_option(taquba_workflow_sync.__version__, prog_name="taquba-workflow")
@click.option("--store", metavar="DIR", help="The store: a directory, or a postgresql:// URL. Also after the command.")
@click.pass_context
def cli(ctx: click.Context, store: str | None) -> None:
    """Durable workflows for synchronous Python, from the shell.

    A TARGET is MODULE:NAME: a WorkflowRuntime, a Flow or a list of Flows; MODULE:NAME() calls a factory. The working
    directory is searched first.
    """
    ctx.obj = store
