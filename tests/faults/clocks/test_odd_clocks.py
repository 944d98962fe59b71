"""Clocks of the user's that misbehave: they raise, forget their zone, go back at each look, or are slow."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from taquba_workflow_sync import Continue, Queue, QueueConfig, Step, StepOutcome, StorageError, Succeed, WorkflowRuntime
from taquba_workflow_sync.clock import EPOCH
from taquba_workflow_sync.testing import ManualClock
from tests.queue.support import claimed, counters, stored
from tests.support import PATIENCE, await_event, in_thread, wait_until

NOON = datetime(2026, 10, 25, 12, tzinfo=UTC)


class Says:
    """A clock that answers what a function says."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now


def opened(path: Path, clock: object, **config: float) -> Queue:
    return Queue.open(
        path / "store",
        clock=clock,
        durability="relaxed",
        default_config=QueueConfig(**config),  # type: ignore[arg-type]
    )


# -- zones -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "zone",
    [timezone(timedelta(hours=14)), timezone(-timedelta(hours=12, minutes=34)), ZoneInfo("Europe/Berlin")],
    ids=str,
)
def test_a_clock_in_another_zone_tells_the_same_instants(tmp_path: Path, zone: timezone) -> None:
    at = [NOON]
    with opened(tmp_path, Says(lambda: at[0].astimezone(zone)), retry_backoff_base=5) as queue:
        job_id = queue.enqueue("q", b"", run_at=(NOON + timedelta(seconds=5)).astimezone(ZoneInfo("Asia/Kolkata")))
        assert queue.claim("q") is None
        at[0] += timedelta(seconds=5)
        assert claimed(queue).job.enqueued_at == NOON
        assert stored(queue, job_id).enqueued_at.tzinfo is UTC


def test_the_hour_that_comes_twice_is_two_hours(tmp_path: Path) -> None:
    """At 03:00 on that morning clocks in Berlin go back to 02:00: as instants, half an hour later is later."""
    berlin = ZoneInfo("Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 45, tzinfo=berlin)
    second = datetime(2026, 10, 25, 2, 15, fold=1, tzinfo=berlin)
    at = [first]
    with opened(tmp_path, Says(lambda: at[0])) as queue:
        queue.enqueue("q", b"", run_at=second)
        assert queue.claim("q") is None
        at[0] = second
        assert queue.claim("q") is not None


def test_a_naive_time_is_refused_where_it_is_given(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "store") as queue, pytest.raises(ValueError, match="no time zone"):
        queue.enqueue("q", b"", run_at=datetime(2026, 1, 1))


# -- failures --------------------------------------------------------------------------------------------------------


def fails() -> datetime:
    raise OSError("the time server is away")


BROKEN: dict[str, Callable[[], datetime]] = {
    "raises": fails,
    "is naive": lambda: datetime(2026, 1, 1),
    "says nothing": lambda: None,  # type: ignore[dict-item,return-value]
    "says a number": lambda: 1e9,  # type: ignore[dict-item,return-value]
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_clock_that_fails_fails_the_call_and_writes_nothing(tmp_path: Path, how: str) -> None:
    clock = Says(lambda: NOON)
    with opened(tmp_path, clock) as queue:
        queue.enqueue("q", b"")
        claim = claimed(queue)
        clock.now = BROKEN[how]
        calls: list[Callable[[], object]] = [
            lambda: queue.enqueue("q", b""),
            lambda: queue.claim("q"),
            lambda: queue.ack(claim),
            lambda: queue.nack(claim, "boom"),
            lambda: queue.renew_lease(claim, 5),
        ]
        for call in calls:
            with pytest.raises(StorageError, match="clock"):
                call()
        assert counters(queue) == {"claimed": 1}
        clock.now = lambda: NOON
        queue.ack(claim)
        assert counters(queue) == {"done": 1}


def test_a_runtime_outlives_a_clock_that_fails_for_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Says(lambda: datetime.now(UTC))
    returned = threading.Event()

    def work(step: Step) -> StepOutcome:
        if step.step_number == 0:
            clock.now = fails
            returned.set()
            return Continue()
        return Succeed(b"%d" % step.attempts)

    with opened(tmp_path, clock) as queue, WorkflowRuntime(queue, work) as runtime:
        handle = runtime.submit()
        await_event(returned)
        wait_until(lambda: "time server is away" in caplog.text, "a report of it")
        clock.now = lambda: datetime.now(UTC)
        assert handle.result(timeout=PATIENCE) == b"1", "the step was repeated"


# -- and worse -------------------------------------------------------------------------------------------------------


def test_a_clock_that_goes_back_at_each_look_works_off_everything_once(tmp_path: Path) -> None:
    looks: list[int] = []

    def backwards() -> datetime:
        looks.append(0)
        return NOON - timedelta(seconds=len(looks))

    seen: list[tuple[str, int, int]] = []

    def work(step: Step) -> StepOutcome:
        seen.append((step.run_id, step.step_number, step.attempts))
        return Continue() if step.step_number < 3 else Succeed()

    with opened(tmp_path, Says(backwards)) as queue:
        runtime = WorkflowRuntime(queue, work)
        for number in range(10):
            runtime.submit(run_id=f"r{number}")
        counts = runtime.run_until_idle(timeout=PATIENCE)
        assert (counts.succeeded, counts.steps) == (10, 40)
    assert sorted(seen) == [(f"r{number}", step, 1) for number in range(10) for step in range(4)]


@pytest.mark.parametrize("at", [NOON, EPOCH], ids=["some day", "the epoch"])
def test_a_slow_clock_keeps_no_other_process_from_writing(tmp_path: Path, at: datetime) -> None:
    """It is read before the transaction begins, never inside, whatever it says (at the epoch it says zero)."""
    reading, go = threading.Event(), threading.Event()
    hangs: list[bool] = []

    def slow() -> datetime:
        if hangs:
            reading.set()
            await_event(go)
            with closing(sqlite3.connect(tmp_path / "store" / "db" / "cache.db", timeout=0.05)) as connection:
                connection.execute("PRAGMA wal_autocheckpoint=0")
                connection.isolation_level = None
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        return at

    with opened(tmp_path, Says(slow)) as queue:
        queue.enqueue("q", b"")
        hangs.append(True)
        join = in_thread(lambda: queue.enqueue("q", b"slow"))
        await_event(reading)
        go.set()
        join()
        hangs.clear()
        assert counters(queue) == {"pending": 2}


def test_a_clock_that_calls_the_queue_is_told_off_or_served_but_never_hangs(tmp_path: Path) -> None:
    inside: list[object] = []
    with opened(tmp_path, clock := Says(lambda: NOON)) as queue:

        def curious() -> datetime:
            if not inside:
                inside.append("asked")
                inside.append(queue.stats("q").pending)
            return NOON

        clock.now = curious
        join = in_thread(lambda: queue.enqueue("q", b""))
        join()
        assert inside == ["asked", 0]


def test_a_moved_manual_clock_wakes_a_runtime_in_both_directions(tmp_path: Path) -> None:
    clock = ManualClock()
    with opened(tmp_path, clock) as queue, WorkflowRuntime(queue, lambda step: Succeed()) as runtime:
        handle = runtime.submit(run_at=clock.now() + timedelta(hours=1))
        clock.advance(-timedelta(hours=1))
        assert handle.status() is not None
        clock.advance(timedelta(hours=2))
        handle.result(timeout=PATIENCE)
