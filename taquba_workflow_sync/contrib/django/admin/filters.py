"""What the query of a list of runs asks for."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any, Final
from urllib.parse import urlencode

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from taquba_workflow_sync.contrib.django.admin.places import Place
from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.workflow.selection import selection
from taquba_workflow_sync.workflow.status import RunState

#: What a list may be narrowed by, beside the search.
_NAMES: Final = ("store", "queue", "state", "since", "until", "error", "header", "parent")
_CURSOR: Final = "p"


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of a filter, as a link."""

    text: str
    query: str
    is_selected: bool
    count: int | None = None


class Filters:
    """The filters of a query. ``problems`` says what of it is not taken."""

    def __init__(self, query: Mapping[str, Any]) -> None:
        self.given: dict[str, str] = {
            name: str(query[name]).strip() for name in ("q", *_NAMES) if str(query.get(name, "")).strip()
        }
        self.problems: list[str] = []
        self.cursors: dict[str, str] = self._cursors(query.get(_CURSOR, ""))
        self._arguments: dict[str, Any] = {}
        for name, argument, read in (
            ("state", "state", RunState),
            ("since", "since", _moment),
            ("until", "until", _moment),
            ("error", "failed_with", str),
            ("header", "header", _header),
            ("parent", "parent", str),
        ):
            if name in self.given:
                self._read(name, argument, read)

    def _read(self, name: str, argument: str, read: Any) -> None:
        try:
            value = read(self.given[name])
            selection(**{argument: value})
        except (TaqubaError, TypeError, ValueError) as error:
            self.problems.append(f"{name} is ignored: {error}")
            del self.given[name]
        else:
            self._arguments[argument] = value

    def _cursors(self, text: str) -> dict[str, str]:
        if not text:
            return {}
        try:
            found = json.loads(base64.urlsafe_b64decode(text.encode()))
            if isinstance(found, dict) and all(isinstance(each, str) for each in found.values()):
                return found
        except (ValueError, RecursionError):
            pass
        self.problems.append("the page asked for is not there; this is the first one")
        return {}

    def holds(self, place: Place) -> bool:
        """Whether a queue is among those asked for."""
        return self.given.get("store", place.alias) == place.alias and (
            self.given.get("queue", place.queue_name) == place.queue_name
        )

    def selections(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the arguments of ``list_runs`` for each listing that is merged, by a name.

        A search finds what begins so, and failed runs whose error contains it.
        """
        text = self.given.get("q")
        if text is None:
            yield "all", self._arguments
            return
        for name, argument in (("id", "prefix"), ("error", "failed_with")):
            try:
                selection(**{argument: text})
            except (TaqubaError, TypeError, ValueError):
                continue  # no id begins so
            if argument not in self._arguments:
                yield name, {**self._arguments, argument: text}

    @property
    def is_narrowed(self) -> bool:
        """Whether counts of states would not be those of the list."""
        return bool(self.given.keys() - {"store", "queue", "state"})

    def query(self, **changes: str | None) -> str:
        """Return the query with some of it changed, on its first page."""
        merged = {**self.given, **changes}
        text = urlencode({name: value for name, value in merged.items() if value})
        return f"?{text}"

    def query_of_page(self, cursors: Mapping[str, str]) -> str:
        """Return the query of a later page."""
        packed = base64.urlsafe_b64encode(json.dumps(cursors).encode()).decode()
        return f"?{urlencode({**self.given, _CURSOR: packed})}"

    @property
    def hidden(self) -> list[tuple[str, str]]:
        """What the search form carries on."""
        return [(name, value) for name, value in self.given.items() if name != "q"]

    @property
    def hidden_of_form(self) -> list[tuple[str, str]]:
        """What the form of the other filters carries on."""
        return [(name, value) for name, value in self.given.items() if name in ("q", "store", "queue", "state")]

    def choices(self, places: list[Place]) -> list[tuple[str, list[Choice]]]:
        """Return the filters that are links: by state, by queue, by store."""
        shown = [place for place in places if self.holds(place)]
        counts: dict[RunState, int] = dict.fromkeys(RunState, 0)
        if not self.is_narrowed:
            for place in shown:
                for state, many in place.client.count_runs().items():
                    counts[state] += many
        states = [Choice("All", self.query(state=None), "state" not in self.given)]
        for state in RunState:
            count = None if self.is_narrowed else counts[state]
            states.append(Choice(state.capitalize(), self.query(state=state), self.given.get("state") == state, count))
        found = [("By state", states)]
        for title, name, values in (
            ("By queue", "queue", sorted({place.queue_name for place in places if self._of_store(place)})),
            ("By store", "store", sorted({place.alias for place in places})),
        ):
            if len(values) > 1 or name in self.given:
                links = [Choice("All", self.query(**{name: None}), name not in self.given)]
                links += [Choice(each, self.query(**{name: each}), self.given.get(name) == each) for each in values]
                found.append((title, links))
        return found

    def _of_store(self, place: Place) -> bool:
        return self.given.get("store", place.alias) == place.alias


def _moment(text: str) -> datetime:
    found = parse_datetime(text)
    if found is None:
        day = parse_date(text)
        if day is None:
            raise ValueError(f"{text!r} is no moment; write 2026-11-26 or 2026-11-26T03:15")
        found = datetime.combine(day, time())
    return timezone.make_aware(found) if timezone.is_naive(found) else found  # type: ignore[no-any-return]  # untyped


def _header(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"{text!r} is no header; write NAME=VALUE")
    return name, value
