"""The limits of all queues, and what they hold back."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.console.view import Page, View
from taquba_workflow_sync.workflow.new_run import holds_runs

#: Of each queue so many keys are listed, those that hold back most.
_LISTED: Final = 50


def page(view: View) -> Page:
    """Return every queue that has limits or is paused."""
    rows = []
    for name, each in view.queue.metrics().queues.items():
        if not holds_runs(name):
            continue
        client, stats = view.client(name), each.stats
        limits = client.limits()
        if limits or stats.paused:
            rows.append((name, stats, limits, client.limit_usage()[:_LISTED] if limits else []))
    return Page("limits.html", "Limits", {"rows": rows})
