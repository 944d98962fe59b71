"""The limits of all queues, and what they hold back."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.console.view import Page, View

#: Of each queue so many keys are listed, those that hold back most.
_LISTED: Final = 50


def page(view: View) -> Page:
    """Return every queue that has limits or is paused."""
    rows = []
    for name in view.queue_names():
        client = view.client(name)
        limits = client.limits()
        stats = view.queue.stats(name)
        if limits or stats.paused:
            rows.append((name, stats, limits, client.limit_usage()[:_LISTED] if limits else []))
    return Page("limits.html", "Limits", {"rows": rows})
