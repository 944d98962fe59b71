"""``dead``: the dead letters of a queue, and what to do with them."""

from __future__ import annotations

from typing import Final

import click

from taquba_workflow_sync.cli.group import Lazy, LazyGroup

_COMMANDS: Final = {
    "list": Lazy("dead_letters", "list_dead", "List the dead letters of a queue."),
    "show": Lazy("dead_letters", "show", "Show a dead letter."),
    "requeue": Lazy("dead_letters", "requeue", "Put dead letters back in line."),
    "drop": Lazy("dead_letters", "drop", "Remove dead letters for good."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def dead() -> None:
    """List, show, requeue and drop dead letters.

    A dead letter is a job that is out of attempts, or failed for good: a step of a run, a notification, a webhook, a
    bare job. An ID is the name of a run, or a job id.
    """
