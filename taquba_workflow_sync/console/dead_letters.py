"""The dead letters of a queue, without their payloads: those may be large, and nobody reads them in a list."""

from __future__ import annotations

from taquba_workflow_sync.console.view import View
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.records import JobPage, record_of
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.status import JobStatus


def dead_letters(view: View, name: str, limit: int, cursor: str | None = None) -> JobPage:
    """Return a page of them; ``payload`` may be empty.

    Raises:
        ValueError, TypeError, InvalidNameError: the name or the cursor is none.
    """
    validation.queue_name(name)
    page = view.queue.handle.page(name, Filter(status=JobStatus.DEAD), limit, cursor, with_payload=False)
    return JobPage([record_of(row) for row in page.rows], page.next_cursor)
