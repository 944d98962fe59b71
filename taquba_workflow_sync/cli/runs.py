"""``runs``: what there is to know of runs, and to do with them."""

from __future__ import annotations

from typing import Final

import click

from taquba_workflow_sync.cli.group import Lazy, LazyGroup

_COMMANDS: Final = {
    "list": Lazy("runs_list", "list_runs", "List runs, narrowed by filters."),
    "show": Lazy("runs_show", "show", "Show all there is to know of a run, and what to do next."),
    "wait": Lazy("runs_wait", "wait", "Wait for a run to end; print its result."),
    "tail": Lazy("runs_wait", "tail", "Follow what happens to a run until it ends."),
    "cancel": Lazy("runs_change", "cancel", "Cancel runs, by id or by filters."),
    "retry": Lazy("runs_change", "retry", "Have failed runs go on at the step that failed."),
    "signal": Lazy("runs_change", "signal", "Send a signal to a run."),
    "wake": Lazy("runs_change", "wake", "Have a run that waits for a time go on now."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def runs() -> None:
    """List, show, wait for, cancel, retry, signal and wake the runs of a queue."""
