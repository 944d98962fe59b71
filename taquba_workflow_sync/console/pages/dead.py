"""Dead letters: what is out of attempts, or failed for good, and waits for a person."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.console.dead_letters import dead_letters
from taquba_workflow_sync.console.view import Page, Refused, View
from taquba_workflow_sync.storage.port.headers import HEADER_RUN_ID
from taquba_workflow_sync.workflow.new_run import holds_runs

_PAGE: Final = 50


def page(view: View) -> Page:
    """Return the dead letters of the queue that the request names, else of the first that has any."""
    counted = {name: each.stats.dead for name, each in view.queue.metrics().queues.items()}
    with_some = [name for name, many in counted.items() if many]
    name = view.request.query.get("queue") or (with_some[0] if with_some else view.queue_name)
    try:
        found = dead_letters(view, name, _PAGE, view.request.query.get("cursor"))
    except (TypeError, ValueError) as error:
        raise Refused(str(error)) from None
    values = {
        "name": name,
        "queues": with_some,
        "counted": counted,
        "rows": [(job, job.headers.get(HEADER_RUN_ID)) for job in found.jobs],
        "has_runs": holds_runs(name),
        "cursor": found.next_cursor,
        "many": counted.get(name, 0),
    }
    return Page("dead.html", "Dead letters", values)
