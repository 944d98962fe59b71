"""Listing, counting, looking up, and when the next claim could succeed."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.storage.port.reads import Counts, DueIn, Filter, Ready, RowPage
from taquba_workflow_sync.storage.port.settlement import Ack, Action, Advance, DeadLetter, Nack, SettleCancelled
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock
from tests.stable_ids import stable_id

from .bench import (
    LEASE_MS,
    QUEUE,
    check_counters,
    claim,
    claims,
    counts_of,
    ending,
    job,
    now_ms,
    put,
    put_one,
    put_run,
    rows_of,
    run,
    settle,
    stored,
)
from .conftest import MakeStore


def walk(store: Store, which: Filter, limit: int, queue: str = QUEUE) -> list[str]:
    """All pages, one after the other."""
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = store.page(queue, which, limit, cursor)
        assert len(page.rows) == limit or page.next_cursor is None, "only the last page is short"
        assert page.rows or not seen, "the last page is not an empty one"
        seen += [row.id for row in page.rows]
        if page.next_cursor is None:
            return seen
        cursor = page.next_cursor


def page_after(store: Store, cursor: str | None, limit: int = 9) -> list[str]:
    return [row.id for row in store.page(QUEUE, Filter(), limit, cursor).rows]


# Pages


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_pages_hold_every_row_once_in_the_order_of_submission(store: Store, limit: int) -> None:
    ids = put(store, *(job(priority=number % 3) for number in range(10)))
    put_one(store, "elsewhere")
    assert walk(store, Filter(), limit) == ids


def test_a_page_of_an_unknown_queue_is_empty(store: Store) -> None:
    assert store.page("nowhere", Filter(), 10, None) == RowPage([], None)


def test_a_cursor_survives_the_removal_of_the_row_it_stands_on(store: Store) -> None:
    ids = put(store, *(job() for _ in range(6)))
    cursor = store.page(QUEUE, Filter(), 3, None).next_cursor
    for job_id in (ids[2], ids[3], ids[0]):
        store.cancel(job_id)
    assert page_after(store, cursor, 3) == ids[4:]


def test_a_cursor_survives_the_removal_of_all_rows_and_new_ones_follow(store: Store) -> None:
    ids = put(store, *(job() for _ in range(4)))
    cursor = store.page(QUEUE, Filter(), 3, None).next_cursor
    for job_id in ids:
        store.cancel(job_id)
    new = put_one(store)
    assert page_after(store, cursor, 3) == [new]


def test_a_cursor_serves_every_handle_and_any_number_of_times(make_store: MakeStore) -> None:
    first, second = make_store(), make_store()
    ids = put(first, *(job() for _ in range(4)))
    cursor = first.page(QUEUE, Filter(), 1, None).next_cursor
    assert page_after(first, cursor) == page_after(first, cursor) == page_after(second, cursor) == ids[1:]


@pytest.mark.parametrize("cursor", ["", "nonsense", " 1", "\0", "é", "12.5", "1e3", "\ud800", "9" * 5_000, "٣"])
@pytest.mark.parametrize("queue", [QUEUE, "nowhere"])
def test_a_cursor_that_is_none_of_the_stores_is_refused(store: Store, cursor: str, queue: str) -> None:
    put(store, job(), job())
    with pytest.raises(ValueError, match="cursor"):
        store.page(queue, Filter(), 1, cursor)


@pytest.mark.parametrize("how", ["advance", "requeue", "promote"])
def test_a_row_that_changes_its_place_in_line_keeps_its_place_in_the_listing(
    store: Store, clock: ManualClock, how: str
) -> None:
    ids = put(store, *(run(f"r{number}") for number in range(4)))
    cursor = store.page(QUEUE, Filter(), 1, None).next_cursor
    held = claim(store)
    match how:
        case "advance":
            settle(store, held, Advance(b"x"))
        case "requeue":
            settle(store, held, DeadLetter("x"))
            store.requeue(held.id)
        case "promote":
            settle(store, held, Nack("x", 1))
            clock.advance(1)
            claims(store, 0)
    assert walk(store, Filter(), 2) == ids
    assert page_after(store, cursor) == ids[1:]


@pytest.fixture
def mixed(store: Store, clock: ManualClock) -> dict[str, list[str]]:
    """Two rows of each kind, runs and bare ones, by what they are."""
    kinds: dict[str, list[str]] = {}
    ends: dict[str, Action] = {
        "succeeded": Ack(), "failed": Ack(Verdict.FAILED, None, "no"), "dead": DeadLetter("x"),
        "cancelled": SettleCancelled(), "scheduled": Nack("x", 10**9),
    }  # fmt: skip
    for number in range(2):
        for name, action in ends.items():
            kinds.setdefault(name, []).append(put_run(store, f"{name}{number}", keep_done_ms=60_000 * (1 + number)))
            settle(store, claim(store), action)
        kinds.setdefault("bare done", []).append(put_one(store, keep_done_ms=60_000))
        settle(store, claim(store), Ack())
        kinds.setdefault("claimed", []).append(put_run(store, f"claimed{number}"))
        claim(store)
        kinds.setdefault("cancelling", []).append(put_run(store, f"cancelling{number}"))
        claim(store)
        store.cancel(kinds["cancelling"][-1])
    kinds["pending"] = [put_run(store, "pending0"), put_run(store, "pending1")]
    kinds["bare"] = [put_one(store), put_one(store)]
    return kinds


@pytest.mark.parametrize(
    ("which", "kinds"),
    [
        (Filter(JobStatus.PENDING), {"pending", "bare"}),
        (Filter(JobStatus.SCHEDULED), {"scheduled"}),
        (Filter(JobStatus.CLAIMED), {"claimed", "cancelling"}),
        (Filter(JobStatus.DONE), {"succeeded", "failed", "bare done"}),
        (Filter(JobStatus.DEAD), {"dead"}),
        (Filter(JobStatus.CANCELLED), {"cancelled"}),
        (Filter(JobStatus.DONE, Verdict.SUCCEEDED), {"succeeded", "bare done"}),
        (Filter(JobStatus.DONE, Verdict.FAILED), {"failed"}),
        (Filter(verdict=Verdict.FAILED), {"failed", "dead"}),
        (Filter(verdict=Verdict.SUCCEEDED, runs_only=True), {"succeeded"}),
        (Filter(JobStatus.CLAIMED, cancel_requested=True), {"cancelling"}),
        (Filter(JobStatus.CLAIMED, cancel_requested=False), {"claimed"}),
        (Filter(cancel_requested=True), {"cancelling"}),
        (Filter(is_waiting=True), {"pending", "bare", "scheduled"}),
        (Filter(is_waiting=True, runs_only=True), {"pending", "scheduled"}),
        (Filter(is_waiting=True, runs_only=True, cancel_requested=False), {"pending", "scheduled"}),
        (Filter(JobStatus.PENDING, runs_only=True), {"pending"}),
        (Filter(is_active=True), {"pending", "bare", "scheduled", "claimed", "cancelling"}),
        (Filter(is_active=True, runs_only=True), {"pending", "scheduled", "claimed", "cancelling"}),
        (Filter(is_active=True, cancel_requested=True), {"cancelling"}),
    ],
    ids=stable_id,
)
@pytest.mark.parametrize("limit", [1, 100])
def test_a_filter_lets_through_exactly_its_kinds(
    store: Store, mixed: dict[str, list[str]], which: Filter, kinds: set[str], limit: int
) -> None:
    everything = walk(store, Filter(), 100)
    wanted = {job_id for kind in kinds for job_id in mixed[kind]}
    assert walk(store, which, limit) == [job_id for job_id in everything if job_id in wanted]


def test_a_filter_by_retention_leaves_out_what_is_not_kept_any_more(
    store: Store, clock: ManualClock, mixed: dict[str, list[str]]
) -> None:
    clock.advance(60)
    shown = set(walk(store, Filter(runs_only=True, visible_only=True), 100))
    for kind in ("succeeded", "failed", "dead", "cancelled"):
        gone, kept = mixed[kind]
        assert gone not in shown and kept in shown
        assert (stored(store, gone).is_visible, stored(store, kept).is_visible) == (False, True)
    assert {*mixed["pending"], *mixed["claimed"], *mixed["scheduled"]} <= shown
    assert all(stored(store, job_id).is_visible for job_id in shown)


# Counters


def test_counters_equal_the_counted_rows(store: Store, mixed: dict[str, list[str]]) -> None:
    check_counters(store)
    assert counts_of(store) == Counts(pending=4, scheduled=2, claimed=4, done=6, dead=2, cancelled=2)


def test_every_queue_that_ever_held_a_job_is_counted(store: Store) -> None:
    assert store.counts() == {}
    put(store, job("b"), job("a"))
    settle(store, claim(store, queue="b"), Ack())
    assert store.counts() == {"a": Counts(pending=1), "b": Counts(done=1)}


# Next work


def test_nothing_waits_in_an_empty_or_unknown_queue(store: Store) -> None:
    assert store.next_work("nowhere") is None
    settle_all(store)
    assert store.next_work(QUEUE) is None


def settle_all(store: Store) -> None:
    put_one(store)
    settle(store, claim(store), Ack())


def test_a_pending_job_makes_its_queue_ready(store: Store) -> None:
    put_one(store)
    assert store.next_work(QUEUE) == Ready()
    assert store.next_work("elsewhere") is None
    claim(store)
    assert store.next_work(QUEUE) is None


def test_the_earliest_due_time_is_told(store: Store, clock: ManualClock) -> None:
    start = now_ms(clock)
    put(store, *(job(run_at_ms=start + delay) for delay in (9_000, 3_000, 5_000)))
    assert store.next_work(QUEUE) == DueIn(3_000)
    clock.advance(2.999)
    assert store.next_work(QUEUE) == DueIn(1)
    clock.advance(0.001)
    assert store.next_work(QUEUE) == Ready()


def test_a_step_of_the_clock_moves_what_is_due(store: Store, clock: ManualClock) -> None:
    put_one(store, run_at_ms=now_ms(clock) + 3_000)
    clock.advance(-10)
    assert store.next_work(QUEUE) == DueIn(13_000)


def test_the_end_of_a_bare_lease_makes_the_queue_ready(store: Store, clock: ManualClock) -> None:
    put_one(store)
    claim(store, is_bare=True)
    assert store.next_work(QUEUE) == DueIn(LEASE_MS)
    clock.advance(LEASE_MS / 1000)
    assert store.next_work(QUEUE) == Ready()
    assert len(claims(store)) == 1


def test_the_lease_of_a_worker_loop_makes_nothing_ready(store: Store, clock: ManualClock) -> None:
    put_one(store)
    claim(store)
    clock.advance(10 * LEASE_MS)
    assert store.next_work(QUEUE) is None


def test_retries_are_told_apart_from_what_was_scheduled(store: Store, clock: ManualClock) -> None:
    start = now_ms(clock)
    put(store, run("first"), run("later", run_at_ms=start + 1_000), run("continued"))
    first, continued = claims(store)
    settle(store, continued, Advance(b"x", delay_ms=500))
    assert store.next_work(QUEUE, retries_only=True) is None
    settle(store, first, Nack("boom", 2_000))
    assert store.next_work(QUEUE, retries_only=True) == DueIn(2_000)
    assert store.next_work(QUEUE) == DueIn(500)
    clock.advance(2)
    assert store.next_work(QUEUE, retries_only=True) == Ready()


def test_whenever_a_queue_is_ready_a_claim_succeeds(store: Store, clock: ManualClock) -> None:
    start = now_ms(clock)
    put(store, *(job(run_at_ms=start + 500 * number) for number in range(5)))
    taken = 0
    while taken < 5:
        following = store.next_work(QUEUE)
        held = claims(store, 1)
        assert bool(held) == (following == Ready())
        taken += len(held)
        if not held:
            assert isinstance(following, DueIn)
            clock.advance(following.ms / 1000)


# One job


def test_an_unknown_id_is_none(store: Store) -> None:
    assert store.get("nobody") is None
    assert store.find_run(QUEUE, "nobody") is None


def test_what_one_handle_wrote_another_reads(make_store: MakeStore) -> None:
    first, second = make_store(), make_store()
    job_id = put_run(first)
    assert second.get(job_id) == first.get(job_id)
    settle(second, claim(second), Ack(result=b"x"))
    assert first.get(job_id) == second.get(job_id)
    assert [row.id for row in rows_of(first, QUEUE)] == [job_id]
    assert first.history(job_id) == second.history(job_id)


def test_many_jobs_in_one_turn_are_counted_right(store: Store) -> None:
    put(store, *(run(f"r{number}") for number in range(200)))
    held = claims(store, 150)
    actions: list[Action] = [
        Ack(),
        DeadLetter("x"),
        SettleCancelled(),
        Nack("x"),
        Nack("x", 5),
        Advance(b"x"),
        Advance(b"x", delay_ms=5),
    ]
    store.settle_and_claim([ending(row, actions[number % 7]) for number, row in enumerate(held)], [])
    check_counters(store)


def test_which_of_many_jobs_have_ended(store: Store) -> None:
    names = put(store, *(run(f"r{number}") for number in range(600)))
    held = claims(store, 3)
    settle(store, held[0], Ack())
    settle(store, held[1], DeadLetter("x"))
    gone = put_one(store)
    store.cancel(gone)
    assert store.ended([]) == set()
    assert store.ended([held[2].id]) == set()
    assert store.ended([*names, gone, "never"]) == {held[0].id, held[1].id, gone, "never"}
    assert store.ended(names[:9]) == {held[0].id, held[1].id}
