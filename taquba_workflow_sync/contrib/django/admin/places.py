"""Where runs are: a queue of a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlencode

from django.core.exceptions import ImproperlyConfigured

from taquba_workflow_sync.contrib.django.conf import aliases
from taquba_workflow_sync.contrib.django.queues_of import queue_names
from taquba_workflow_sync.contrib.django.stores import store
from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.new_run import DEFAULT_KEEP, holds_runs

#: What a store raises that cannot be opened or read.
UNREADABLE: Final[tuple[type[Exception], type[Exception], type[Exception]]] = (
    TaqubaError,
    OSError,
    ImproperlyConfigured,
)


@dataclass(frozen=True, slots=True)
class Place:
    """A queue of the store of an alias."""

    alias: str
    queue_name: str

    @property
    def key(self) -> str:
        """A text for it, without slashes but the one between the two."""
        return f"{quote(self.alias, safe='')}/{quote(self.queue_name, safe='')}"

    @classmethod
    def of_key(cls, key: str) -> Place | None:
        """Return the place of a text; None if it is none, or there is no such store."""
        alias, slash, queue_name = key.partition("/")
        found = cls(unquote(alias), unquote(queue_name))
        return found if slash and found.alias in aliases() and found.queue_name else None

    @property
    def query(self) -> str:
        """What a URL says of it."""
        return urlencode({"store": self.alias, "queue": self.queue_name})

    @property
    def queue(self) -> Queue:
        """The open store."""
        return store(self.alias)

    @property
    def client(self) -> WorkflowClient:
        """A client of it."""
        return WorkflowClient(self.queue, queue_name=self.queue_name, keep_runs=DEFAULT_KEEP)


def all_places() -> tuple[list[Place], list[str]]:
    """Return the queues of all stores: those of flows and tasks, and those that anybody has used; and what is wrong."""
    found: list[Place] = []
    problems: list[str] = []
    for alias in aliases():
        try:
            found += [Place(alias, name) for name in queue_names(alias, store(alias)) if holds_runs(name)]
        except UNREADABLE as error:
            problems.append(f"the store {alias!r} cannot be read: {error}")
    return found, problems


def find(run_id: str, alias: str | None = None, queue_name: str | None = None) -> Place | None:
    """Return where a run is: in the store and queue if they are given, else wherever there is one of that name.

    Of several the first: the project's own flows, then its tasks, then other queues.

    Raises:
        InvalidRunIdError: no run can be called so.
        StorageError, OSError: a store broke while it was looked in.
    """
    for place in all_places()[0]:
        if alias not in (None, place.alias) or queue_name not in (None, place.queue_name):
            continue
        if place.client.status(run_id) is not None:
            return place
    return None
