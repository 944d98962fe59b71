"""A request to the console and its answer, whatever serves them: WSGI, Django or Flask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from taquba_workflow_sync.console.access import Access
from taquba_workflow_sync.queue.queue import Queue

_HTML: Final = "text/html; charset=utf-8"


class Fields:
    """Names and values of a query or a form, in order; a name may come several times."""

    def __init__(self, values: Mapping[str, Sequence[str]]) -> None:
        self._values = {name: list(each) for name, each in values.items()}

    def get(self, name: str) -> str | None:
        """Return the first value of a name; None if there is none, or if it is empty."""
        return next((value for value in self._values.get(name, ()) if value), None)

    def all(self, name: str) -> list[str]:
        """Return all values of a name."""
        return list(self._values.get(name, ()))

    def items(self) -> list[tuple[str, str]]:
        """Return every pair."""
        return [(name, value) for name, values in self._values.items() for value in values]


@dataclass(frozen=True, slots=True)
class Csrf:
    """The field that a form must bring along: its name, and its value for the one who asks."""

    field: str
    token: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, by somebody who may.

    ``path`` is the page's, without what the console is mounted at, which is ``base`` and ends without a slash.
    ``stores``: what it may be about, by their names; the first is meant where none is named. ``may_hold``: whether an
    answer may go on for seconds without keeping the process from everything else.
    """

    method: str
    path: str
    query: Fields
    form: Fields
    base: str
    stores: Mapping[str, Queue]
    access: Access
    csrf: Csrf
    may_hold: bool = True
    last_event_id: str | None = None


@dataclass(slots=True)
class Response:
    """What is answered; ``body`` is whole, or comes in pieces."""

    status: int
    body: bytes | Iterable[bytes]
    content_type: str = _HTML
    headers: dict[str, str] = field(default_factory=dict)


def text_response(status: int, text: str) -> Response:
    """Return an answer of plain text."""
    return Response(status, f"{text}\n".encode("utf-8", "backslashreplace"), "text/plain; charset=utf-8")


def redirect(url: str) -> Response:
    """Have the browser get another page, whatever it sent here."""
    return Response(303, b"", "text/plain; charset=utf-8", {"Location": url})
