"""The processes that work on the store, and what they run."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.console.view import Page, View
from taquba_workflow_sync.workflow.new_run import holds_runs

#: Of each process so many jobs are listed.
_LISTED: Final = 50


def page(view: View) -> Page:
    """Return who runs what."""
    rows = [
        (each, [(job, holds_runs(job.queue)) for job in each.running[:_LISTED]], max(len(each.running) - _LISTED, 0))
        for each in view.queue.workers()
    ]
    return Page("workers.html", "Workers", {"rows": rows})
