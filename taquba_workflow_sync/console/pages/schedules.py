"""The schedules of all queues: when they fire next, and what became of the last time."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.console.view import Page, View

#: So many are shown, those that fire next.
_MOST: Final = 200


def page(view: View) -> Page:
    """Return the schedules of the queue that the request names, else of all."""
    wanted = view.request.query.get("queue")
    names = view.queue_names() if wanted is None else [wanted]
    found = [(name, each) for name in names for each in view.client(name).schedules()]
    found.sort(key=lambda pair: (pair[1].next_at is None, pair[1].next_at or view.now, *pair[:1], pair[1].name))
    values = {"rows": found[:_MOST], "left_out": max(len(found) - _MOST, 0), "wanted": wanted}
    return Page("schedules.html", "Schedules", values)
