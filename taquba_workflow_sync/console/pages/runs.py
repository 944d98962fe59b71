"""The runs of a queue, those that filters find."""

from __future__ import annotations

import time
from typing import Final

from taquba_workflow_sync.console.filters import filters_of
from taquba_workflow_sync.console.view import Page, Refused, View
from taquba_workflow_sync.workflow.status import RunState, RunStatus

_PAGE: Final = 50
#: A filter that finds little looks at so many times 10,000 runs before it asks whether to go on, and no more
#: once so many seconds are over: the page may be left open, and is made anew each second then.
_LOOKS: Final = 3
_PATIENCE: Final = 0.03


def page(view: View) -> Page:
    """Return the list, the newest first."""
    client = view.client()
    query = view.request.query
    filters = filters_of(query)
    cursor = query.get("cursor")
    order = query.get("order") or "newest"
    if order not in ("newest", "oldest"):
        raise Refused(f"order is {order!r}; it may be newest or oldest")
    rows: list[RunStatus] = []
    enough_at = time.monotonic() + _PATIENCE
    try:
        for _ in range(_LOOKS):
            found = client.list_runs(
                newest_first=order == "newest", limit=_PAGE - len(rows), cursor=cursor, **filters.arguments
            )
            rows += found.runs
            cursor = found.next_cursor
            if cursor is None or len(rows) >= _PAGE or time.monotonic() >= enough_at:
                break
    except (ValueError, TypeError) as error:
        raise Refused(str(error)) from None
    values = {
        "name": client.queue_name,
        "queues": sorted({*view.queue_names(), client.queue_name}),
        "counts": client.count_runs(),
        "states": list(RunState),
        "filters": filters.texts,
        "is_narrowed": bool(filters.texts),
        "order": order,
        "rows": rows,
        "cursor": cursor,
        "is_first": query.get("cursor") is None,
    }
    return Page("runs.html", f"Runs of {client.queue_name}", values)
