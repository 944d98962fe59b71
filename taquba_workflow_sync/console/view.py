"""What a page is made from: the request, the store that it is about, and the addresses of other pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from taquba_workflow_sync.console.access import Access
from taquba_workflow_sync.console.messages import Request
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.new_run import DEFAULT_QUEUE_NAME, holds_runs


class Missing(Exception):
    """What was asked for is not there: a 404, with what to say of it."""


class Refused(Exception):
    """What was asked for makes no sense: a 400, with what to say of it."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a template is filled with. ``is_live``: it is told of changes for as long as it is open."""

    template: str
    title: str
    values: Mapping[str, Any]
    is_live: bool = True
    status: int = 200


@dataclass(frozen=True, slots=True)
class View:
    """One look at one store."""

    request: Request
    name: str
    queue: Queue
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the stores that there are."""
        return tuple(self.request.stores)

    @property
    def may_act(self) -> bool:
        """Whether the one who asks may change something."""
        return self.request.access is Access.ACT

    @property
    def queue_name(self) -> str:
        """The queue that the request names."""
        return self.request.query.get("queue") or DEFAULT_QUEUE_NAME

    def client(self, queue_name: str | None = None) -> WorkflowClient:
        """Return a client of a queue, else of the one that the request names.

        Raises:
            Missing: no runs can be in it.
        """
        name = self.queue_name if queue_name is None else queue_name
        if not holds_runs(name):
            raise Missing(f"queue {name!r} has no runs")
        return WorkflowClient(self.queue, queue_name=name)

    def queue_names(self) -> list[str]:
        """Return the queues that have runs, sorted."""
        return [name for name in self.queue.list_queues() if holds_runs(name)]

    @property
    def address(self) -> str:
        """The address of the page that is looked at, as the stream of its changes names it."""
        return f"{self.request.path}?{urlencode(self.request.query.items(), errors='replace')}"

    def url(self, page: str, /, **query: Any) -> str:
        """Return the address of a page; what is None is left out."""
        given = {name: value for name, value in query.items() if value is not None}
        if len(self.names) > 1:
            given.setdefault("store", self.name)
        return f"{self.request.base}/{page}{'?' if given else ''}{urlencode(given, doseq=True, errors='replace')}"


def view_of(request: Request) -> View:
    """Return a look at the store that a request names.

    Raises:
        Missing: there is none of that name.
    """
    name = request.query.get("store") or next(iter(request.stores))
    if name not in request.stores:
        raise Missing(f"there is no store {name!r}")
    return View(request, name, request.stores[name])
