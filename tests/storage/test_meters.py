"""What is counted for those who watch: series that only grow, in commits of their own or of others."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.storage.port.limit import Limit
from taquba_workflow_sync.storage.port.meter import (
    BOUNDS,
    MINUTES,
    MOST_LABELS,
    OTHER_LABEL,
    SUM,
    Counting,
    Meter,
    Series,
    bucket_of,
)
from taquba_workflow_sync.storage.port.settings import StepSettings
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, DeadLetter, Nack
from taquba_workflow_sync.storage.port.signals import NewSignal
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.timing import TimeLimits
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind
from taquba_workflow_sync.testing import ManualClock

from .bench import QUEUE, claim, claims, ending, job, now_ms, put, put_one, put_run, run, settle
from .conftest import MakeStore

DONE = Series(QUEUE, "", Meter.ATTEMPTS, "succeeded")
SUCCEEDED = Series(QUEUE, "", Meter.RUNS, "succeeded")
SUMMED = Series(QUEUE, "", Meter.TOOK, SUM)


def test_a_new_store_has_counted_nothing(store: Store) -> None:
    assert (store.read_meters(), store.recent_minutes(), store.ready_ages_ms()) == ({}, [], {})
    assert store.log_bytes() >= 0


def test_what_is_added_is_seen_by_every_handle_and_adds_up(make_store: MakeStore) -> None:
    mine, other = make_store(), make_store()
    mine.add_to_meters({DONE: 2, SUMMED: 1_500})
    other.add_to_meters({DONE: 1})
    mine.add_to_meters({})
    assert mine.read_meters() == other.read_meters() == {DONE: 3, SUMMED: 1_500}


def test_attempts_and_runs_are_known_by_the_minute_for_an_hour(store: Store, clock: ManualClock) -> None:
    first = now_ms(clock) // 60_000
    store.add_to_meters({DONE: 2, SUMMED: 1})
    clock.advance(60)
    store.add_to_meters({SUCCEEDED: 1, DONE: 1})
    assert store.recent_minutes() == [(first, DONE, 2), (first + 1, DONE, 1), (first + 1, SUCCEEDED, 1)]
    clock.advance(60 * (MINUTES - 2))
    assert [minute for minute, _, _ in store.recent_minutes()] == [first, first + 1, first + 1]
    clock.advance(60)
    assert [minute for minute, _, _ in store.recent_minutes()] == [first + 1, first + 1]
    store.add_to_meters({DONE: 1})
    clock.advance(-600)  # a clock that is set back shows what it has dropped no more, and nothing twice
    assert {series: added for _, series, added in store.recent_minutes() if series == SUCCEEDED} == {SUCCEEDED: 1}
    assert store.read_meters() == {DONE: 4, SUMMED: 1, SUCCEEDED: 1}


def test_labels_that_are_too_many_share_one_series(store: Store) -> None:
    def of(label: str, queue: str = QUEUE) -> Series:
        return Series(queue, label, Meter.ATTEMPTS, "continued")

    store.add_to_meters({of(""): 1, of("again"): 1})
    store.add_to_meters({of(f"order-{number}"): 1 for number in range(MOST_LABELS + 50)})
    store.add_to_meters({of("again"): 1, of("one more"): 1, of("", "other"): 1, of("one more", "other"): 1})
    meters = store.read_meters()
    labels = {series.label for series in meters if series.queue == QUEUE}
    assert len(labels) == MOST_LABELS + 2 and {"", "again", OTHER_LABEL} < labels
    assert (meters[of("again")], meters[of(OTHER_LABEL)]) == (2, 50 + 1 + 1)
    assert meters[of("one more", "other")] == 1


@pytest.mark.parametrize("label", ["x\0y", "ü", "a b", "(other)"])
def test_a_label_comes_back_as_it_was(store: Store, label: str) -> None:
    series = Series("qu\xeb", label, Meter.ATTEMPTS, "dead")
    store.add_to_meters({series: 1})
    assert store.read_meters() == {series: 1}


def test_a_commit_that_settles_counts_what_it_has_settled(store: Store) -> None:
    put(store, run("a"), run("b"), run("c"))
    held = claims(store)
    store.settle_and_claim([ending(held[0], Ack())], [])
    settlements = [ending(each, Ack()) for each in held]
    each = [{DONE: 1}, {DONE: 1, SUMMED: 10}, {DONE: 1, SUMMED: 5}]
    counting = Counting({SUCCEEDED: 7}, each)
    answers, _ = store.settle_and_claim(settlements, [], counting)
    assert counting.is_stored
    assert [answer is None for answer in answers] == [False, True, True]
    assert store.read_meters() == {SUCCEEDED: 7, DONE: 2, SUMMED: 15}


def test_a_commit_counts_without_settling_anything(store: Store) -> None:
    job_id = put_one(store)
    answers, claimed = store.settle_and_claim([], [], Counting({DONE: 1}, ()))
    assert (answers, claimed, store.read_meters()) == ([], [], {DONE: 1})
    assert claim(store).id == job_id


def test_a_waiting_run_that_is_cancelled_is_counted_by_the_store(store: Store) -> None:
    store.cancel(put_run(store))
    store.cancel(put_one(store))
    assert store.read_meters() == {Series(QUEUE, "", Meter.RUNS, "cancelled"): 1}


def test_a_claimed_run_is_counted_by_whoever_ends_it(store: Store) -> None:
    put(store, run("a"), run("b"))
    store.cancel(claim(store).id)
    settle(store, claim(store), DeadLetter("broken"))
    assert store.read_meters() == {}


def test_runs_that_end_for_their_limits_are_counted(store: Store, clock: ManualClock) -> None:
    put_run(store, "late", limits=TimeLimits(None, 1_000, None))
    put_run(store, "expired", limits=TimeLimits(None, None, 1_000))
    clock.advance(5)
    assert claims(store) == []
    counted = {series.name: many for series, many in store.read_meters().items()}
    assert counted == {"failed": 1, "cancelled": 1}


def test_attempts_of_the_dead_are_counted_as_reaped(store: Store, clock: ManualClock) -> None:
    settings = StepSettings(label="ship")
    put(store, run("a", settings=settings), run("b", max_attempts=1), job())
    claims(store, is_bare=True, lease_ms=1_000)
    clock.advance(2)
    claims(store, is_bare=True)
    reaped = Series(QUEUE, "", Meter.ATTEMPTS, "reaped")
    assert store.read_meters() == {
        reaped: 2,
        reaped._replace(label="ship"): 1,
        Series(QUEUE, "", Meter.RUNS, "failed"): 1,
    }


def test_what_waits_in_line_has_been_ready_since_it_could_be_claimed(store: Store, clock: ManualClock) -> None:
    start = now_ms(clock)
    put(store, run("now"), run("later", run_at_ms=start + 5_000, priority=5), job("mails"), job("idle"))
    claim(store, queue="idle")
    clock.advance(10)
    assert store.ready_ages_ms() == {QUEUE: 10_000, "mails": 10_000}
    assert [each.run_id for each in claims(store)] == ["later", "now"]
    assert store.ready_ages_ms() == {"mails": 10_000}


def test_a_step_that_follows_has_been_ready_since_the_one_before_ended(store: Store, clock: ManualClock) -> None:
    put_run(store)
    clock.advance(100)
    settle(store, claim(store), Advance(b"next"))
    clock.advance(3)
    assert store.ready_ages_ms() == {QUEUE: 3_000}
    settle(store, claim(store), Nack("again"))
    clock.advance(1)
    assert store.ready_ages_ms() == {QUEUE: 1_000}


def test_a_retried_run_has_been_ready_since_its_retry(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    settle(store, claim(store), DeadLetter("broken"))
    clock.advance(1_000)
    store.requeue(job_id, failed_run=True)
    clock.advance(2)
    assert store.ready_ages_ms() == {QUEUE: 2_000}


def test_nobody_knows_since_when_what_has_waited_for_the_world_is_ready(store: Store, clock: ManualClock) -> None:
    put_run(store)
    settle(store, claim(store), Advance(b"next", wait=Wait(WaitKind.SIGNAL, "go", None)))
    clock.advance(60)
    store.send_signal(QUEUE, "r", NewSignal("go", b"", None), None)
    assert store.ready_ages_ms() == {}
    assert claim(store).wait is not None


def test_what_stands_in_no_line_is_not_ready(store: Store, clock: ManualClock) -> None:
    store.set_limit(QUEUE, Limit("key", concurrency=1))
    put(store, run("a", limit_key="key"), run("b", limit_key="key"))
    claim(store)
    clock.advance(5)
    assert store.ready_ages_ms() == {}


def test_buckets_end_at_their_bounds() -> None:
    assert [bucket_of(seconds) for seconds in (0.0, BOUNDS[0], 0.0011, BOUNDS[-1], 1e9)] == [
        0,
        0,
        1,
        len(BOUNDS) - 1,
        len(BOUNDS),
    ]
