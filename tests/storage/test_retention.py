"""Finished rows leave when the retention frozen on them is over, never before, 500 at a time."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.storage.port.reads import Counts, Filter
from taquba_workflow_sync.storage.port.settlement import Ack, Action, DeadLetter, SettleCancelled
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    QUEUE,
    claim,
    claims,
    counts_of,
    dump,
    ending,
    job,
    now_ms,
    put,
    put_one,
    put_run,
    rows_of,
    run,
    settle,
    status,
    stored,
    writes_nothing,
)

ENDS: dict[str, Action] = {
    "succeeded": Ack(),
    "failed": Ack(Verdict.FAILED, None, "no"),
    "dead": DeadLetter("broken"),
    "cancelled": SettleCancelled(),
}
each_end = pytest.mark.parametrize("action", ENDS.values(), ids=ENDS.keys())


def leaves_after(store: Store, clock: ManualClock, job_id: str, seconds: float) -> None:
    """Assert that a sweep removes the job from the moment on that it is ``seconds`` old, and not before."""
    clock.advance(seconds - 0.001)
    with writes_nothing(store):
        assert store.sweep() == 0
    clock.advance(0.001)
    assert store.sweep() == 1
    assert store.get(job_id) is None
    assert store.history(job_id) == []
    assert store.sweep() == 0


@each_end
@pytest.mark.parametrize("keep_ms", [60_000, 3_600_000])
def test_a_run_leaves_when_its_retention_is_over_however_it_ended(
    store: Store, clock: ManualClock, action: Action, keep_ms: int
) -> None:
    job_id = put_run(store, keep_done_ms=keep_ms, keep_dead_ms=1)
    settle(store, claim(store), action)
    leaves_after(store, clock, job_id, keep_ms / 1000)


@each_end
@pytest.mark.parametrize("keep_ms", [None, 0, 1, 59_999])
def test_a_run_of_which_little_is_kept_stays_a_minute_unseen(
    store: Store, clock: ManualClock, action: Action, keep_ms: int | None
) -> None:
    job_id = put_run(store, keep_done_ms=keep_ms)
    settle(store, claim(store), action)
    row = stored(store, job_id)
    assert row.is_visible is bool(keep_ms)
    clock.advance((keep_ms or 0) / 1000)
    assert stored(store, job_id).is_visible is False
    assert rows_of(store, QUEUE, Filter(visible_only=True)) == []
    leaves_after(store, clock, job_id, 60 - (keep_ms or 0) / 1000)


def test_a_bare_job_that_is_kept_leaves_after_its_time(store: Store, clock: ManualClock) -> None:
    job_id = put_one(store, keep_done_ms=5_000)
    settle(store, claim(store), Ack())
    leaves_after(store, clock, job_id, 5)


def test_a_bare_dead_letter_has_a_retention_of_its_own(store: Store, clock: ManualClock) -> None:
    job_id = put_one(store, keep_done_ms=1, keep_dead_ms=5_000)
    settle(store, claim(store), DeadLetter("x"))
    leaves_after(store, clock, job_id, 5)


def test_a_dead_letter_without_retention_stays_for_ever(store: Store, clock: ManualClock) -> None:
    job_id = put_one(store, keep_dead_ms=None)
    settle(store, claim(store), DeadLetter("x"))
    clock.advance(100 * 365 * 86_400)
    assert store.sweep() == 0
    assert status(store, job_id) == "dead"


def test_a_dead_letter_with_no_retention_at_all_leaves_at_once(store: Store) -> None:
    job_id = put_one(store, keep_dead_ms=0)
    settle(store, claim(store), DeadLetter("x"))
    assert store.get(job_id) is None
    assert counts_of(store) == Counts()


def test_retention_counts_from_the_end_not_from_the_submit(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, keep_done_ms=60_000)
    clock.advance(1_000_000)
    settle(store, claim(store), Ack())
    leaves_after(store, clock, job_id, 60)


@pytest.mark.parametrize("state", ["pending", "scheduled", "claimed"])
def test_what_is_not_finished_never_leaves(store: Store, clock: ManualClock, state: str) -> None:
    job_id = put_run(store, keep_done_ms=0, run_at_ms=now_ms(clock) + 10**12 if state == "scheduled" else None)
    if state == "claimed":
        claim(store)
    clock.advance(10**8)
    with writes_nothing(store):
        assert store.sweep() == 0
    assert status(store, job_id) == state


def test_a_sweep_takes_at_most_five_hundred(store: Store, clock: ManualClock) -> None:
    put(store, *(run(f"r{number}", keep_done_ms=0) for number in range(1_100)))
    store.settle_and_claim([ending(row, DeadLetter("x")) for row in claims(store)], [])
    assert counts_of(store).dead == 1_100
    clock.advance(60)
    assert [store.sweep() for _ in range(4)] == [500, 500, 100, 0]
    assert rows_of(store, QUEUE) == []
    assert counts_of(store) == Counts()


def test_a_sweep_leaves_the_counters_of_all_that_ever_was(store: Store, clock: ManualClock) -> None:
    put(store, run("a"), run("b"), run("c"), run("d"))
    held = claims(store)
    store.settle_and_claim([ending(row, action) for row, action in zip(held, ENDS.values(), strict=True)], [])
    assert counts_of(store) == Counts(done=2, dead=1, cancelled=1)
    clock.advance(10**6)
    assert store.sweep() == 4
    assert counts_of(store) == Counts(done=2, cancelled=1)


def test_a_sweep_takes_parts_and_history_with_it_and_nobody_elses(store: Store, clock: ManualClock) -> None:
    put(store, run("old", b"o" * 9_000, keep_done_ms=60_000), run("new", b"n" * 9_000))
    held = claims(store)
    store.settle_and_claim([ending(row, Ack(result=row.payload)) for row in held], [])
    new = stored(store, held[1].id)
    clock.advance(60)
    assert store.sweep() == 1
    assert stored(store, held[1].id) == new
    assert list(dump(store)["rows"]) == [held[1].id]


def test_a_cancelled_bare_job_that_is_kept_leaves_too(store: Store, clock: ManualClock) -> None:
    job_id = put_one(store, keep_done_ms=2_000)
    store.cancel(job_id)
    leaves_after(store, clock, job_id, 2)


def test_only_what_is_over_leaves(store: Store, clock: ManualClock) -> None:
    ids = put(store, *(job(keep_done_ms=1_000 * keep) for keep in (3, 1, 2)))
    store.settle_and_claim([ending(row, Ack()) for row in claims(store)], [])
    clock.advance(2)
    assert store.sweep() == 2
    assert [row.id for row in rows_of(store, QUEUE)] == [ids[0]]
