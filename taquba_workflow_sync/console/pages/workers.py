"""The processes that work on the store, and what they run."""

from __future__ import annotations

from taquba_workflow_sync.console.view import Page, View


def page(view: View) -> Page:
    """Return who runs what."""
    return Page("workers.html", "Workers", {"rows": []})
