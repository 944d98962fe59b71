"""A page reads as much of a large store as of a small one: by an index, and no more than it shows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import Queue, RunSpec, WorkflowClient
from taquba_workflow_sync.console.pages import runs as runs_page
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.embedded import connections
from taquba_workflow_sync.storage.port.reads import Filter, RowPage
from tests.console.site import Site
from tests.console.steps import work

pytestmark = pytest.mark.embedded
SMALL, LARGE = 1_000, 16_000
PAGES = (
    "", "queue?queue=workflow-steps", "runs", "runs?order=oldest", "runs?state=pending", "runs?state=failed",
    "runs?state=running", "runs?prefix=zz", "run?id=dead-0", "dead", "schedules", "limits", "workers",
)  # fmt: skip


class Work:
    """Counts what SQLite does, in hundreds of its own instructions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        connect = connections.connect

        def counted(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.set_progress_handler(self._count, 100)
            return connection

        monkeypatch.setattr(connections, "connect", counted)

    def _count(self) -> int:
        self.done += 1
        return 0


@pytest.fixture
def work_done(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


@pytest.fixture
def store(work_done: Work, tmp_path: Path) -> Iterator[Queue]:
    """A store of some failed runs and a thousand that wait."""
    with Queue.open(tmp_path / "store", durability="relaxed") as queue:
        client = WorkflowClient(queue)
        client.submit_many(RunSpec(run_id=f"dead-{number}", input=b"dead") for number in range(60))
        work(queue)
        client.submit_many(RunSpec(run_id=f"a-{number}") for number in range(SMALL))
        yield queue


def test_a_page_of_a_store_sixteen_times_as_large_costs_the_same(
    store: Queue, work_done: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A list looks at 10,000 rows at most; of a store that has more than that, it looks at as many whatever its size.
    monkeypatch.setattr("taquba_workflow_sync.workflow.selection.MOST_EXAMINED", 500)
    site = Site({"default": store})

    def costs() -> dict[str, int]:
        found = {}
        for page in PAGES:
            site.get(page)  # what is made at the first look is not meant
            before = work_done.done
            site.get(page)
            found[page] = work_done.done - before
        return found

    small = costs()
    for start in range(SMALL, LARGE, 5_000):
        WorkflowClient(store).submit_many(RunSpec(run_id=f"a-{n}") for n in range(start, min(start + 5_000, LARGE)))
    large = costs()
    assert small["runs"] > 0, "the work is counted"
    grown = {page: (small[page], large[page]) for page in PAGES if large[page] > 1.5 * small[page] + 20}
    assert grown == {}


def test_a_list_asks_for_no_more_than_it_shows_and_for_no_payloads(
    store: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site({"default": store})
    asked: list[tuple[int, bool]] = []
    page = QueueHandle.page

    def counted(
        handle: QueueHandle, name: str, which: Filter, limit: int, cursor: str | None, *, with_payload: bool = True
    ) -> RowPage:
        asked.append((limit, with_payload))
        return page(handle, name, which, limit, cursor, with_payload=with_payload)

    monkeypatch.setattr(QueueHandle, "page", counted)
    for address in ("runs", "dead", "runs?state=failed"):
        asked.clear()
        site.get(address)
        assert asked == [(50, False)], address


def test_a_filter_that_finds_nothing_stops_and_leads_on(store: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taquba_workflow_sync.workflow.selection.MOST_EXAMINED", 100)
    site = Site({"default": store})
    monkeypatch.setattr(runs_page, "_PATIENCE", 60.0)
    page = site.get("runs", header="customer=nobody")
    assert "No run is found so far." in page.main.text
    seen = 0
    while "Go on looking" in {each.text for each in page.main.all("a")}:
        page, seen = site.click(page, "Go on looking"), seen + 1
    assert seen == (SMALL + 60) // 300 and "No run is found." in page.main.text
    monkeypatch.setattr(runs_page, "_PATIENCE", 0.0)
    calls: list[object] = []
    list_runs = WorkflowClient.list_runs
    monkeypatch.setattr(WorkflowClient, "list_runs", lambda *a, **o: (calls.append(o), list_runs(*a, **o))[1])
    site.get("runs", header="customer=nobody")
    assert len(calls) == 1, "one look, where a look takes long"
