"""A page of the runs of several queues as one list, the newest first: the listings of the queues, merged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from taquba_workflow_sync.contrib.django.admin.filters import Filters
from taquba_workflow_sync.contrib.django.admin.places import Place
from taquba_workflow_sync.workflow.status import RunStatus

#: How often a listing that finds little is asked to go on, for one page: each time it looks at 10,000 runs.
_MOST_CALLS: Final = 5
#: In place of a cursor: there is nothing behind.
_END: Final = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One run, and where it is."""

    place: Place
    run: RunStatus

    @property
    def key(self) -> str:
        """What names it in a form."""
        return f"{self.place.key}/{self.run.run_id}"


@dataclass(frozen=True, slots=True)
class Page:
    """Some runs; ``next_query`` leads to those behind, None if there are none."""

    rows: list[Row]
    next_query: str | None


def page_of(filters: Filters, places: list[Place], size: int) -> Page:
    """Return the page that the filters ask for.

    Raises:
        ValueError: a cursor is none.
    """
    streams = [
        _Stream(
            place,
            f"{place.key}/{name}",
            arguments,
            filters.cursors.get(f"{place.key}/{name}"),
            filters.given.get("q", ""),
        )
        for place in places
        if filters.holds(place)
        for name, arguments in filters.selections()
    ]
    for stream in streams:
        stream.fill(size)
    candidates = [(found, stream) for stream in streams for found in stream.found]
    candidates.sort(key=lambda each: each[0].run.submitted_at, reverse=True)
    shown = candidates[:size]
    cursors = {stream.key: stream.cursor_behind(sum(other is stream for _, other in shown)) for stream in streams}
    is_over = all(cursor == _END for cursor in cursors.values())
    given = {key: cursor for key, cursor in cursors.items() if cursor is not None}
    return Page(
        [Row(stream.place, each.run) for each, stream in shown], None if is_over else filters.query_of_page(given)
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """A run, and how to come behind it: in which call it was found, and as which of that."""

    run: RunStatus
    call: int
    index: int


@dataclass(slots=True)
class _Stream:
    """One listing of one queue, from a cursor on."""

    place: Place
    key: str
    arguments: dict[str, Any]
    cursor: str | None
    searched: str
    found: list[_Found] = field(default_factory=list)
    #: The cursors that the calls began with, then that behind the last.
    _cursors: list[str | None] = field(default_factory=list)

    def fill(self, size: int) -> None:
        """Find the first ``size`` runs, or fewer if there are no more, or they are far between."""
        self._cursors = [self.cursor]
        if self.cursor == _END:
            return
        for call in range(_MOST_CALLS):
            page = self._list(size, self._cursors[-1])
            self._cursors.append(_END if page.next_cursor is None else page.next_cursor)
            self.found += [_Found(run, call, index) for index, run in enumerate(page.runs) if not self._is_twice(run)]
            if page.next_cursor is None or len(self.found) >= size:
                return

    def _is_twice(self, run: RunStatus) -> bool:
        """Whether the listing of what begins with the text searched for has it, too."""
        return self.key.endswith("/error") and run.run_id.startswith(self.searched)

    def _list(self, limit: int, cursor: str | None) -> Any:
        return self.place.client.list_runs(newest_first=True, limit=limit, cursor=cursor, **self.arguments)

    def cursor_behind(self, many: int) -> str | None:
        """Return the cursor behind the first ``many`` of those found; None: before the first."""
        if many == len(self.found):
            return self._cursors[-1]
        if many == 0:
            return self.cursor
        last = self.found[many - 1]
        behind = self._list(last.index + 1, self._cursors[last.call]).next_cursor
        return _END if behind is None else behind
