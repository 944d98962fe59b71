"""The pages, by the last part of their addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from taquba_workflow_sync.console.pages import confirm, dead, limits, overview, queue, run, runs, schedules, workers
from taquba_workflow_sync.console.view import Page, View

PAGES: Final[Mapping[str, Callable[[View], Page]]] = {
    "": overview.page,
    "queue": queue.page,
    "runs": runs.page,
    "run": run.page,
    "dead": dead.page,
    "schedules": schedules.page,
    "limits": limits.page,
    "workers": workers.page,
    "confirm": confirm.page,
}
