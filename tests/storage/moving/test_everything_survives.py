"""A store with everything in it is moved there and back, and is what it was; and its work goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, RunSpec, StoreMovedError, Succeed, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.storage.moving import copying
from taquba_workflow_sync.storage.moving.tables import copied
from tests.storage.bench import check_counters
from tests.storage.moving.conftest import Pair, is_open
from tests.storage.moving.furnished import WIDE, rows_in, tables_with_rows, told


def test_a_store_with_everything_in_it_is_the_same_elsewhere(pair: Pair) -> None:
    with Queue.open(pair.source) as queue:
        before = told(queue.handle.store)
    rows = pair.move()
    assert rows > 100
    with Queue.open(pair.target) as queue:
        assert told(queue.handle.store) == before
        check_counters(queue.handle.store)
        assert queue.check().problems == []
    with pytest.raises(StoreMovedError) as raised:
        Queue.open(pair.source)
    assert raised.value.address in str(raised.value)


@pytest.mark.parametrize("direction", ["to-postgres"], indirect=True)
def test_a_directory_moved_there_and_back_has_every_row_that_it_had(pair: Pair, tmp_path: Path) -> None:
    """Every row of every table: this asks no engine."""
    place, back = Path(pair.source), tmp_path / "back"
    before = rows_in(place)
    assert tables_with_rows(place) == {table.name for table in copied()}, "or the store has not everything in it"
    there = pair.move()
    assert Queue.move(pair.target, back) == there
    assert rows_in(back) == before
    assert rows_in(place) == before, "the source keeps what it had"
    with Queue.open(back) as queue:
        assert queue.check().problems == []


def test_work_goes_on_where_the_store_is_then(pair: Pair) -> None:
    pair.move()
    with Queue.open(pair.target) as queue:
        furnish_names_that_are_new(queue)
        client = WorkflowClient(queue)
        counts = WorkflowRuntime(queue, lambda _: Succeed(b"there")).run_until_idle(20)
        assert counts.succeeded >= 10, "what waited in line, and the run that was sent what it waits for"
        for name in ("waits-2", "urgent", "limited-4", "open-2"):
            assert client.wait(name, 0).result == b"there", name
        check_counters(queue.handle.store)
        assert queue.check().problems == []


def furnish_names_that_are_new(queue: Queue) -> None:
    """Whatever has a number of its own gets one that nothing has: nothing is refused, nothing is replaced."""
    client = WorkflowClient(queue, queue_name="new")
    client.submit_group("new", [RunSpec(run_id="new-member")])
    client.submit(run_id="new", input=WIDE)
    client.signal("new", "s", WIDE)
    client.schedule("new", every=3600, spec=RunSpec())
    client.set_limit(key="new", concurrency=1)
    queue.kv.put("new", WIDE)
    queue.enqueue("new", WIDE)


@pytest.mark.parametrize("direction", ["to-postgres"], indirect=True)
def test_a_page_carries_a_bounded_number_of_rows_and_bytes(
    empty_pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rows over the bound go alone; pages end at the right keys, those of several columns too."""
    monkeypatch.setattr(copying, "_PAGE_ROWS", 7)
    monkeypatch.setattr(copying, "_PAGE_BYTES", 3000)
    copying._texts.cache_clear()
    try:
        with Queue.open(empty_pair.source, durability="relaxed") as queue:
            queue.enqueue_batch("q", [bytes(number * 40) for number in range(120)])
            for number in range(120):
                queue.kv.put(f"k{number}", bytes(number * 50))
            for _ in range(40):
                claim = queue.claim("q")
                assert claim is not None
                queue.advance(claim, b"")
        seen: list[str] = []
        empty_pair.move(at=seen.append)
        assert seen.count("copied taquba_job_4") > 120 / 7
        Queue.move(empty_pair.target, tmp_path / "back")
        assert rows_in(tmp_path / "back") == rows_in(Path(empty_pair.source))
    finally:
        copying._texts.cache_clear()


def test_a_moved_store_is_not_moved_again(pair: Pair) -> None:
    pair.move()
    with pytest.raises(StoreMovedError):
        pair.move()
    with pytest.raises(StoreMovedError):
        pair.abort()
    with pytest.raises(StoreMovedError):  # it is not empty, and says where it went
        Queue.move(pair.target, pair.source)
    assert is_open(pair.target)
