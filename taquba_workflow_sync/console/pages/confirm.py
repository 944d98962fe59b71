"""What is about to be done, before it is."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.console.actions import meant
from taquba_workflow_sync.console.filters import NAMES, filters_of
from taquba_workflow_sync.console.texts import exact
from taquba_workflow_sync.console.view import Page, View

#: So many names are listed.
_LISTED: Final = 30


def page(view: View) -> Page:
    """Return the form that does it.

    Raises:
        Refused: it asks for nothing that there is.
    """
    query = view.request.query
    action, names = meant(query)
    is_all = query.get("all") is not None
    kept = [(name, value) for name, value in query.items() if name in ("do", "queue", "id", "all", "store", *NAMES)]
    values = {
        "action": action,
        "names": names[:_LISTED],
        "left_out": max(len(names) - _LISTED, 0),
        "is_all": is_all,
        "name": query.get("queue"),
        "filters": filters_of(query).texts,
        "kept": [(name, exact(value)) for name, value in kept if value],
        "csrf": view.request.csrf,
        "back": view.url(action.back, queue=query.get("queue")),
    }
    return Page("confirm.html", action.title, values, is_live=False)
