"""Limits at the port: who stands in line of a key and who is parked, what rates count, pauses, and ranks that age."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taquba_workflow_sync.errors import QueueFullError, TaqubaError
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.limit import HoldFor, Limit, Rate, rank_of
from taquba_workflow_sync.storage.port.reads import DueIn, Filter, Ready
from taquba_workflow_sync.storage.port.settings import StepSettings
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Nack,
    Ongoing,
    PutBack,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.port.signals import NewSignal, SignalOutcome
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.timing import TimeLimits
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind, waiting_for
from taquba_workflow_sync.testing import ManualClock

from .bench import QUEUE, check_counters, claim, claims, holding, job, now_ms, put, put_run, run, settle, status, stored
from .conftest import MakeStore
from .deaths import Deaths

KEY = "customer-1"
SECOND = 1_000


def limit(store: Store, pattern: str | None = KEY, queue: str = QUEUE, **fields: Any) -> None:
    """Set a limit, and have it be in force."""
    store.set_limit(queue, Limit(pattern, **fields))
    settle_limits(store, queue)


def clear(store: Store, pattern: str | None = KEY) -> None:
    store.clear_limit(QUEUE, pattern)
    settle_limits(store)


def settle_limits(store: Store, queue: str = QUEUE) -> None:
    while store.settle_limits(queue):
        pass


def keyed(store: Store, *names: str, key: str = KEY, **fields: Any) -> list[str]:
    """Submit runs of a key."""
    return [put_run(store, name, limit_key=key, **fields) for name in names]


def parked(store: Store, queue: str = QUEUE) -> list[str | None]:
    """The names of the runs that wait for their key."""
    page = store.page(queue, Filter(), 1000, None)
    return [row.run_id for row in page.rows if row.is_parked]


def names(rows: list[ClaimedRow]) -> list[str | None]:
    return [row.run_id for row in rows]


# -- slots


def test_as_many_of_a_key_are_in_line_as_its_limit_and_the_others_are_parked(store: Store) -> None:
    limit(store, concurrency=2)
    keyed(store, "a", "b", "c", "d")
    assert parked(store) == ["c", "d"]
    assert names(claims(store)) == ["a", "b"]
    assert claims(store) == []
    assert store.counts()[QUEUE].pending == 2


def test_what_is_parked_makes_no_queue_ready(store: Store) -> None:
    limit(store, concurrency=1)
    keyed(store, "a", "b")
    claim(store)
    assert store.next_work(QUEUE) is None


ENDS: dict[str, Action] = {
    "ack": Ack(),
    "advance later": Advance(b"", delay_ms=SECOND),
    "nack later": Nack("boom", SECOND),
    "put back for later": PutBack(SECOND),
    "dead letter": DeadLetter("broken"),
    "settle cancelled": SettleCancelled(),
}


@pytest.mark.parametrize("action", ENDS.values(), ids=ENDS.keys())
def test_the_commit_that_ends_a_claim_lets_in_the_next_of_its_key(store: Store, action: Action) -> None:
    limit(store, concurrency=1)
    keyed(store, "a", "b", "c")
    settle(store, claim(store), action)
    assert parked(store) == ["c"]
    assert store.next_work(QUEUE) == Ready()
    assert names(claims(store)) == ["b"]


def test_a_run_that_goes_on_stands_behind_those_of_its_key_that_waited(store: Store) -> None:
    limit(store, concurrency=1)
    keyed(store, "a", "b")
    order = []
    for _ in range(4):
        held = claim(store)
        order.append(held.run_id)
        settle(store, held, Advance(b"next"))
    assert order == ["a", "b", "a", "b"]


def test_a_run_that_keeps_its_place_goes_before_those_that_came_after_it(store: Store) -> None:
    limit(store, concurrency=1)
    keyed(store, "a", "b")
    settle(store, claim(store), Advance(b"next", keeps_place=True))
    assert (names(claims(store)), parked(store)) == (["a"], ["b"])


@pytest.mark.parametrize("action", [Nack("boom"), PutBack(0)], ids=["nack", "put back"])
def test_what_goes_back_at_once_keeps_its_place_before_what_is_parked(store: Store, action: Action) -> None:
    limit(store, concurrency=1)
    keyed(store, "a", "b")
    settle(store, claim(store), action)
    assert (names(claims(store)), parked(store)) == (["a"], ["b"])


def test_a_better_parked_run_swaps_with_a_worse_one_that_is_in_line(store: Store) -> None:
    limit(store, concurrency=2)
    keyed(store, "a", "b")
    keyed(store, "urgent", priority=1)
    assert parked(store) == ["b"]
    assert names(claims(store)) == ["urgent", "a"]


def test_a_claimed_run_is_never_put_out_by_a_better_one(store: Store) -> None:
    limit(store, concurrency=1)
    keyed(store, "a")
    held = claim(store)
    keyed(store, "urgent", priority=1)
    assert parked(store) == ["urgent"]
    settle(store, held, Ack())
    assert names(claims(store)) == ["urgent"]


def test_a_release_keeps_the_slot(store: Store) -> None:
    limit(store, concurrency=1)
    keyed(store, "a")
    held = claim(store)
    keyed(store, "urgent", priority=1)
    settle(store, held, Release())
    assert (names(claims(store)), parked(store)) == (["a"], ["urgent"])


def test_what_a_release_puts_above_a_limit_that_was_lowered_meanwhile_is_parked(store: Store) -> None:
    limit(store, concurrency=2)
    keyed(store, "a", "b")
    one, two = claims(store)
    limit(store, concurrency=1)
    settle(store, two, Release())
    assert (claims(store), parked(store)) == ([], ["b"])
    settle(store, one, Ack())
    assert names(claims(store)) == ["b"]


def test_a_dead_process_s_slots_come_back_with_its_claims(deaths: Deaths, store: Store) -> None:
    limit(store, concurrency=1)
    keyed(store, "a", "b", max_attempts=1)
    evidence = deaths.let_die("owner", deaths.take("owner"))
    assert names(claims(store, abandoned=evidence)) == ["b"]
    assert parked(store) == []


def test_a_lease_that_is_over_gives_its_slot_back(store: Store, clock: ManualClock) -> None:
    limit(store, concurrency=1)
    keyed(store, "a", "b")
    claim(store, is_bare=True, lease_ms=SECOND)
    clock.advance(1)
    assert (names(claims(store)), parked(store)) == (["a"], ["b"])


def test_what_is_due_enters_the_line_of_its_key_as_a_new_one_does(store: Store, clock: ManualClock) -> None:
    limit(store, concurrency=1)
    keyed(store, "later", run_at_ms=now_ms(clock) + SECOND, priority=1)
    keyed(store, "a")
    put_run(store, "plain", run_at_ms=now_ms(clock) + SECOND)
    clock.advance(1)
    assert names(claims(store)) == ["later", "plain"]
    assert parked(store) == ["a"]


@pytest.mark.parametrize("which", ["in line", "parked"])
def test_a_cancelled_run_frees_what_it_had(store: Store, which: str) -> None:
    limit(store, concurrency=1)
    first, second, _ = keyed(store, "a", "b", "c")
    store.cancel(first if which == "in line" else second)
    assert parked(store) == ["c"]
    assert names(claims(store)) == (["b"] if which == "in line" else ["a"])


def test_a_retried_run_enters_the_line_of_its_key(store: Store) -> None:
    limit(store, concurrency=1)
    (failed,) = keyed(store, "failed")
    settle(store, claim(store), DeadLetter("broken"))
    keyed(store, "a")
    store.requeue(failed, failed_run=True)
    assert parked(store) == ["failed"]
    settle(store, claim(store), Ack())
    assert names(claims(store)) == ["failed"]


def test_keys_have_slots_of_their_own_and_what_has_no_key_has_no_limit(store: Store) -> None:
    limit(store, "customer-*", concurrency=1)
    keyed(store, "a", "b")
    keyed(store, "c", key="customer-2")
    put_run(store, "plain")
    keyed(store, "other", key="other")
    assert names(claims(store)) == ["a", "c", "plain", "other"]


def test_keys_of_two_queues_are_two(store: Store) -> None:
    limit(store, concurrency=1)
    keyed(store, "a", "b")
    keyed(store, "a", "b", queue="elsewhere")
    assert (len(claims(store)), len(claims(store, queue="elsewhere"))) == (1, 2)


def test_limits_hold_over_all_handles(make_store: MakeStore) -> None:
    one, two = make_store(), make_store()
    limit(one, concurrency=1)
    keyed(two, "a", "b")
    assert (len(claims(one)), len(claims(two))) == (1, 0)
    assert two.limits(QUEUE) == [Limit(KEY, concurrency=1)]


# -- which limit is a key's


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ({"*": 1}, 1),
        ({"*": 1, "customer-*": 2}, 2),
        ({"customer-*": 2, "cust*": 1}, 2),
        ({"customer-*": 2, KEY: 3}, 3),
        ({"customer-2*": 1, "custom": 1}, 5),
        ({KEY + "*": 2, KEY: 1}, 1),
        ({KEY + "*": 2}, 2),
    ],
)
def test_an_exact_key_beats_every_pattern_and_the_longest_pattern_wins(
    store: Store, patterns: dict[str, int], expected: int
) -> None:
    for pattern, concurrency in patterns.items():
        limit(store, pattern, concurrency=concurrency)
    keyed(store, *"abcde")
    assert len(claims(store)) == expected


@pytest.mark.parametrize("key", ["%", "customer_1", "[a]", "?", "ä", "CUSTOMER-1", "-" * 255])
def test_a_key_is_compared_as_it_is(store: Store, key: str) -> None:
    limit(store, key, concurrency=1)
    limit(store, key[:-1] + "x*", concurrency=1)
    keyed(store, "a", "b", key=key)
    keyed(store, "c", "d", key="customer-1")
    assert names(claims(store)) == ["a", "c", "d"]


# -- limits that change


def test_a_lowered_limit_parks_the_last_in_line_and_leaves_claims_alone(store: Store) -> None:
    keyed(store, *"abcd")
    held = claim(store)
    limit(store, concurrency=2)
    assert parked(store) == ["c", "d"]
    limit(store, concurrency=1)
    assert parked(store) == ["b", "c", "d"]
    assert claims(store) == []
    settle(store, held, Ack())
    assert names(claims(store)) == ["b"]


def test_a_raised_or_cleared_limit_lets_in_what_fits(store: Store) -> None:
    limit(store, concurrency=1)
    keyed(store, *"abcd")
    limit(store, concurrency=3)
    assert parked(store) == ["d"]
    clear(store)
    assert parked(store) == []
    assert store.limits(QUEUE) == []
    assert names(claims(store)) == list("abcd")


def test_a_cleared_exact_limit_leaves_its_keys_to_the_pattern(store: Store) -> None:
    limit(store, "customer-*", concurrency=2)
    limit(store, KEY, concurrency=1)
    keyed(store, *"abc")
    clear(store, KEY)
    assert parked(store) == ["c"]


def test_a_new_pattern_is_seen_to_in_every_key_that_it_is_of(store: Store) -> None:
    for number in range(30):
        keyed(store, f"{number}-a", f"{number}-b", key=f"customer-{number}")
    keyed(store, "x", "y", key="another")
    limit(store, "customer-*", concurrency=1)
    assert sorted(map(str, parked(store))) == sorted(f"{number}-b" for number in range(30))


def test_a_limit_is_replaced_as_a_whole(store: Store) -> None:
    limit(store, concurrency=1, max_waiting=5)
    limit(store, rate=Rate(3, SECOND))
    assert store.limits(QUEUE) == [Limit(KEY, rate=Rate(3, SECOND))]


def test_limits_are_listed_the_queue_s_own_first(store: Store) -> None:
    limit(store, "b*", concurrency=1)
    limit(store, None, concurrency=7)
    limit(store, "a", concurrency=2, hold=HoldFor.RUN)
    assert [each.pattern for each in store.limits(QUEUE)] == [None, "a", "b*"]
    assert store.limits("nowhere") == []
    store.clear_limit("nowhere", None)
    store.clear_limit(QUEUE, "unknown")
    assert len(store.limits(QUEUE)) == 3


def test_what_enters_the_line_before_a_changed_limit_is_settled_obeys_it(store: Store) -> None:
    keyed(store, "a")
    store.set_limit(QUEUE, Limit(KEY, concurrency=1))
    keyed(store, "b")
    assert parked(store) == ["b"]


def test_whoever_claims_goes_on_with_a_limit_that_nobody_settles(store: Store) -> None:
    limit(store, concurrency=1)
    keyed(store, *"abc")
    held = claim(store)
    store.clear_limit(QUEUE, KEY)  # and dies
    assert names(claims(store)) == ["b", "c"]
    settle(store, held, Ack())
    assert store.settle_limits(QUEUE) is False


# -- slots that runs keep


def test_a_run_keeps_its_slot_from_its_first_claim_until_it_ends(store: Store, clock: ManualClock) -> None:
    limit(store, concurrency=1, hold=HoldFor.RUN)
    keyed(store, "a", "b")
    settle(store, claim(store), Advance(b"next"))
    held = claim(store)
    assert held.run_id == "a"
    settle(store, held, Advance(b"next", delay_ms=SECOND))
    assert (claims(store), parked(store)) == ([], ["b"])
    clock.advance(1)
    held = claim(store)
    assert held.run_id == "a"
    settle(store, held, Ack())
    assert names(claims(store)) == ["b"]


def test_a_run_that_keeps_its_slot_is_not_put_out_of_line(store: Store) -> None:
    limit(store, concurrency=1, hold=HoldFor.RUN)
    keyed(store, "a")
    settle(store, claim(store), Advance(b"next"))
    keyed(store, "urgent", priority=1)
    assert (names(claims(store)), parked(store)) == (["a"], ["urgent"])


def test_a_run_that_was_never_claimed_is_put_out_of_line(store: Store) -> None:
    limit(store, concurrency=1, hold=HoldFor.RUN)
    keyed(store, "a")
    keyed(store, "urgent", priority=1)
    assert (names(claims(store)), parked(store)) == (["urgent"], ["a"])


def test_a_cancelled_run_gives_the_slot_back_that_it_kept(store: Store) -> None:
    limit(store, concurrency=1, hold=HoldFor.RUN)
    first, _ = keyed(store, "a", "b")
    settle(store, claim(store), Advance(b"next", delay_ms=SECOND))
    store.cancel(first)
    assert names(claims(store)) == ["b"]


def test_slots_that_runs_keep_are_free_once_the_limit_holds_for_steps(store: Store, clock: ManualClock) -> None:
    limit(store, concurrency=1, hold=HoldFor.RUN)
    keyed(store, "a", "b")
    settle(store, claim(store), Advance(b"next", delay_ms=SECOND))
    limit(store, concurrency=1)
    held = claim(store)
    assert held.run_id == "b"
    clock.advance(1)
    assert claims(store) == []
    settle(store, held, Ack())
    assert names(claims(store)) == ["a"]


def test_a_lowered_limit_takes_slots_back_from_runs_that_are_not_claimed(store: Store, clock: ManualClock) -> None:
    limit(store, concurrency=3, hold=HoldFor.RUN)
    keyed(store, "a", "b", "c")
    a, b, _ = claims(store)
    settle(store, a, Advance(b"next"))
    settle(store, b, Advance(b"next", delay_ms=SECOND))
    limit(store, concurrency=1, hold=HoldFor.RUN)
    clock.advance(1)
    assert claims(store) == []
    assert parked(store) == ["a", "b"]


def test_a_run_above_a_lowered_limit_keeps_no_slot_when_its_claim_ends(store: Store) -> None:
    limit(store, concurrency=2, hold=HoldFor.RUN)
    keyed(store, "a", "b")
    a, b = claims(store)
    limit(store, concurrency=1, hold=HoldFor.RUN)
    settle(store, a, Advance(b"next"))
    assert (claims(store), parked(store)) == ([], ["a"])
    settle(store, b, Ack())
    assert names(claims(store)) == ["a"]


# -- rates


def test_no_window_holds_more_claims_than_the_rate(store: Store, clock: ManualClock) -> None:
    limit(store, rate=Rate(2, 10 * SECOND))
    keyed(store, *"abcdef")
    at: list[float] = []
    for second in range(40):
        for held in claims(store):
            at.append(second)
            settle(store, held, Ack())
        clock.advance(1)
    assert at == [0, 0, 10, 10, 20, 20]


def test_a_rate_is_refilled_as_each_claim_leaves_the_window(store: Store, clock: ManualClock) -> None:
    limit(store, rate=Rate(2, 10 * SECOND))
    keyed(store, *"abcd")
    first = claim(store)
    clock.advance(4)
    second = claim(store)
    assert store.next_work(QUEUE) == DueIn(6 * SECOND)
    settle(store, first, Ack())
    settle(store, second, Ack())
    clock.advance(5.999)
    assert (claims(store), store.next_work(QUEUE)) == ([], DueIn(1))
    clock.advance(0.001)
    assert store.next_work(QUEUE) == Ready()
    assert names(claims(store)) == ["c"]
    assert store.next_work(QUEUE) == DueIn(4 * SECOND)


def test_retries_and_steps_count_for_a_rate(store: Store, clock: ManualClock) -> None:
    limit(store, rate=Rate(2, 10 * SECOND))
    keyed(store, "a")
    settle(store, claim(store), Nack("boom"))
    settle(store, claim(store), Advance(b"next"))
    assert (claims(store), parked(store)) == ([], ["a"])
    clock.advance(10)
    assert len(claims(store)) == 1


def test_a_claim_that_never_began_does_not_count_for_a_rate(store: Store) -> None:
    limit(store, rate=Rate(1, 10 * SECOND))
    keyed(store, "a", "b")
    for _ in range(3):
        settle(store, claim(store), Release())
    assert (names(claims(store)), parked(store)) == (["a"], ["b"])


def test_what_stands_in_line_counts_for_a_rate_as_if_it_were_claimed(store: Store, clock: ManualClock) -> None:
    limit(store, rate=Rate(2, SECOND))
    keyed(store, *"abc")
    clock.advance(100)
    assert names(claims(store)) == ["a", "b"]
    assert claims(store) == []


def test_a_better_run_swaps_with_one_in_line_where_the_rate_has_no_room(store: Store) -> None:
    limit(store, rate=Rate(1, SECOND))
    keyed(store, "a")
    keyed(store, "urgent", priority=1)
    assert (names(claims(store)), parked(store)) == (["urgent"], ["a"])


def test_concurrency_and_rate_of_a_key_both_hold(store: Store, clock: ManualClock) -> None:
    limit(store, concurrency=2, rate=Rate(3, 10 * SECOND))
    keyed(store, *"abcde")
    one, two = claims(store)
    settle(store, one, Ack())
    settle(store, two, Ack())
    assert names(claims(store)) == ["c"]
    clock.advance(10)
    assert names(claims(store)) == ["d"]


def test_a_run_that_keeps_its_slot_waits_for_the_rate_with_it(store: Store, clock: ManualClock) -> None:
    limit(store, concurrency=1, rate=Rate(1, 10 * SECOND), hold=HoldFor.RUN)
    keyed(store, "a", "b")
    settle(store, claim(store), Advance(b"next"))
    assert (claims(store), parked(store)) == ([], ["a", "b"])
    clock.advance(10)
    assert (names(claims(store)), parked(store)) == (["a"], ["b"])


def test_a_lowered_rate_parks_what_is_in_line_above_it(store: Store, clock: ManualClock) -> None:
    limit(store, rate=Rate(3, 10 * SECOND))
    keyed(store, *"abc")
    claim(store)
    limit(store, rate=Rate(2, 10 * SECOND))
    assert parked(store) == ["c"]
    assert names(claims(store)) == ["b"]
    clock.advance(10)
    assert names(claims(store)) == ["c"]


def test_a_rate_that_is_cleared_is_waited_for_no_longer(store: Store) -> None:
    limit(store, rate=Rate(1, 10 * SECOND))
    keyed(store, *"abc")
    claim(store)
    clear(store)
    assert names(claims(store)) == ["b", "c"]


def test_what_is_noted_of_idle_keys_is_swept(store: Store, clock: ManualClock) -> None:
    limit(store, "*", rate=Rate(5, 10 * SECOND))
    for number in range(5):
        keyed(store, f"r{number}", key=f"k{number}", keep_done_ms=10**9)
    for held in claims(store):
        settle(store, held, Ack())
    assert store.sweep() == 0
    keyed(store, "again", key="k0")
    settle(store, claim(store), Ack())
    clock.advance(10)
    store.sweep()
    assert store.sweep() == 0
    keyed(store, "once-more", key="k0")
    assert names(claims(store)) == ["once-more"]


# -- the queue's own limit


def test_a_queue_s_concurrency_bounds_its_claims_and_parks_nothing(store: Store) -> None:
    limit(store, None, concurrency=2)
    put(store, *(run(name) for name in "abcd"))
    held = claims(store)
    assert names(held) == ["a", "b"]
    assert (claims(store), parked(store), store.next_work(QUEUE)) == ([], [], None)
    settle(store, held[0], Ack())
    assert store.next_work(QUEUE) == Ready()
    assert names(claims(store)) == ["c"]


def test_a_claim_that_is_settled_in_the_same_commit_makes_room(store: Store) -> None:
    limit(store, None, concurrency=1)
    put(store, *(run(name) for name in "ab"))
    held = claim(store)
    _, rows = store.settle_and_claim(
        [Settlement(held.id, held.token, Ack())], [ClaimRequest((LaneClaim(QUEUE, 30_000),), 5)]
    )
    assert names(rows) == ["b"]


def test_a_queue_s_rate_bounds_its_claims(store: Store, clock: ManualClock) -> None:
    limit(store, None, rate=Rate(2, 10 * SECOND))
    put(store, *(run(name) for name in "abcd"))
    assert names(claims(store, 1)) == ["a"]
    clock.advance(4)
    assert names(claims(store)) == ["b"]
    assert store.next_work(QUEUE) == DueIn(6 * SECOND)
    clock.advance(6)
    assert store.next_work(QUEUE) == Ready()
    assert names(claims(store)) == ["c"]


def test_a_claim_that_never_began_does_not_count_for_a_queue_s_rate(store: Store) -> None:
    limit(store, None, rate=Rate(1, 10 * SECOND))
    put(store, run("a"), run("b"))
    for _ in range(3):
        settle(store, claim(store), Release())
    assert len(claims(store)) == 1


def test_queue_and_key_limits_both_hold(store: Store) -> None:
    limit(store, None, concurrency=2)
    limit(store, concurrency=1)
    keyed(store, "a", "b")
    put_run(store, "plain-1")
    put_run(store, "plain-2")
    assert names(claims(store)) == ["a", "plain-1"]


def test_a_cleared_queue_limit_bounds_nothing(store: Store) -> None:
    limit(store, None, concurrency=1)
    put(store, run("a"), run("b"))
    clear(store, None)
    assert len(claims(store)) == 2


@pytest.mark.parametrize("fields", [{"concurrency": 9}, {"rate": Rate(9, SECOND)}], ids=["concurrency", "rate"])
def test_no_claim_is_held_in_a_queue_that_counts_them(store: Store, fields: dict[str, Any]) -> None:
    limit(store, None, **fields)
    put_run(store)
    held = claim(store)
    assert store.settle_and_claim([holding(store, held, room=5)], ())[0] == [None]
    assert status(store, held.id) is JobStatus.PENDING


def test_no_claim_of_a_keyed_run_is_held(store: Store) -> None:
    keyed(store, "a")
    put_run(store, "plain")
    one, two = claims(store)
    answers, _ = store.settle_and_claim([holding(store, one, room=5), holding(store, two, room=5)], ())
    assert answers == [None, Ongoing.HELD]


# -- how many may wait


def bounded(name: str, **fields: Any) -> Any:
    return run(name, is_bounded=True, **fields)


def test_a_full_queue_refuses_new_runs_and_writes_nothing(store: Store) -> None:
    limit(store, None, max_waiting=2)
    put(store, bounded("a"), bounded("b"))
    with pytest.raises(QueueFullError, match=r"queue 'steps' is full: 2 wait, and max_waiting is 2"):
        put(store, bounded("c"))
    assert store.counts()[QUEUE].pending == 2
    assert isinstance(QueueFullError("x"), TaqubaError) and not QueueFullError("x").is_permanent


def test_several_runs_are_refused_together_where_not_all_fit(store: Store) -> None:
    limit(store, None, max_waiting=2)
    with pytest.raises(QueueFullError):
        put(store, bounded("a"), bounded("b"), bounded("c"))
    assert store.counts()[QUEUE].pending == 0


def test_a_full_queue_answers_repeats_and_takes_what_is_no_submit(store: Store) -> None:
    limit(store, None, max_waiting=1)
    (first,) = put(store, bounded("a"))
    assert put(store, bounded("a")) == [first]
    put_run(store, "of-an-effect")
    put(store, job())
    settle(store, claim(store), DeadLetter("broken"))
    store.requeue(first, failed_run=True)
    assert store.counts()[QUEUE].pending == 3


def test_what_is_claimed_or_scheduled_does_not_wait(store: Store, clock: ManualClock) -> None:
    limit(store, None, max_waiting=1)
    put(store, bounded("later", run_at_ms=now_ms(clock) + SECOND), bounded("a"))
    claim(store)
    put(store, bounded("b"))
    with pytest.raises(QueueFullError):
        put(store, bounded("c"))


def test_a_key_is_full_by_itself_parked_runs_counted(store: Store) -> None:
    limit(store, "customer-*", concurrency=1, max_waiting=2)
    put(store, bounded("a", limit_key=KEY), bounded("b", limit_key=KEY))
    assert parked(store) == ["b"]
    with pytest.raises(QueueFullError, match=r"limit key 'customer-1' of queue 'steps' is full"):
        put(store, bounded("c", limit_key=KEY))
    put(store, bounded("d", limit_key="customer-2"), bounded("e"))
    with pytest.raises(QueueFullError):
        put(store, bounded("f", limit_key="customer-3"), *(bounded(n, limit_key="customer-3") for n in "gh"))


# -- pauses


def test_nothing_is_claimed_from_a_paused_queue_until_it_is_resumed(make_store: MakeStore, clock: ManualClock) -> None:
    one, two = make_store(), make_store()
    put_run(one, "a")
    one.pause(QUEUE, is_paused=True)
    one.pause(QUEUE, is_paused=True)
    assert two.is_paused(QUEUE)
    put_run(two, "b", run_at_ms=now_ms(clock) + SECOND)
    assert (claims(two), two.next_work(QUEUE)) == ([], DueIn(SECOND))
    clock.advance(1)
    assert not isinstance(two.next_work(QUEUE), Ready)
    assert claims(two) == []
    assert two.counts()[QUEUE].pending == 2, "what is due is promoted"
    assert two.next_work(QUEUE) is None
    two.pause(QUEUE, is_paused=False)
    assert (one.is_paused(QUEUE), one.next_work(QUEUE)) == (False, Ready())
    assert names(claims(one)) == ["a", "b"]


def test_a_pause_survives_every_handle(make_store: MakeStore) -> None:
    make_store().pause(QUEUE, is_paused=True)
    later = make_store()
    put_run(later)
    assert (later.is_paused(QUEUE), claims(later)) == (True, [])


def test_a_queue_that_was_never_used_is_not_paused(store: Store) -> None:
    store.pause("nowhere", is_paused=False)
    assert not store.is_paused("nowhere")
    assert store.counts() == {}


def test_what_runs_in_a_paused_queue_ends_and_is_not_held(store: Store) -> None:
    put(store, run("a"), run("b"))
    one, two = claims(store)
    store.pause(QUEUE, is_paused=True)
    answers, rows = store.settle_and_claim(
        [holding(store, one, room=5), Settlement(two.id, two.token, Ack())],
        [ClaimRequest((LaneClaim(QUEUE, 30_000),), 5)],
    )
    assert (answers, rows) == ([None, None], [])
    assert (status(store, one.id), status(store, two.id)) == (JobStatus.PENDING, JobStatus.DONE)


def test_a_paused_queue_is_reaped(store: Store, clock: ManualClock) -> None:
    put_run(store, "a")
    held = claim(store, is_bare=True, lease_ms=SECOND)
    store.pause(QUEUE, is_paused=True)
    clock.advance(1)
    assert claims(store) == []
    assert status(store, held.id) is JobStatus.PENDING


# -- ranks that age

AGING = 60 * SECOND


def test_a_thousand_points_of_priority_are_worth_one_aging_of_waiting(store: Store, clock: ManualClock) -> None:
    put_run(store, "normal", priority=1000, aging_ms=AGING)
    clock.advance(59)
    put_run(store, "soon", priority=0, aging_ms=AGING)
    clock.advance(2)
    put_run(store, "late", priority=0, aging_ms=AGING)
    assert names(claims(store)) == ["soon", "normal", "late"]


def test_without_aging_priority_is_strict(store: Store, clock: ManualClock) -> None:
    put_run(store, "normal", priority=1000)
    clock.advance(10**6)
    put_run(store, "urgent", priority=999)
    assert names(claims(store)) == ["urgent", "normal"]


def test_the_clock_of_the_line_never_goes_back(make_store: MakeStore) -> None:
    ahead, behind = ManualClock(), ManualClock()
    ahead.advance(3600)
    one, two = make_store(clock=ahead), make_store(clock=behind)
    put_run(one, "first", aging_ms=AGING)
    put_run(two, "second", aging_ms=AGING)
    put_run(two, "more-urgent", priority=999, aging_ms=AGING)
    assert names(claims(one)) == ["more-urgent", "first", "second"]


def test_what_waits_for_a_time_begins_to_age_then(store: Store, clock: ManualClock) -> None:
    put_run(store, "later", run_at_ms=now_ms(clock) + 100 * SECOND, aging_ms=AGING)
    clock.advance(50)
    put_run(store, "between", aging_ms=AGING)
    clock.advance(50)
    assert names(claims(store)) == ["between", "later"]


KEEPING: dict[str, Callable[[], Action]] = {
    "nack": lambda: Nack("boom"),
    "release": lambda: Release(),
    "put back": lambda: PutBack(0),
    "advance in place": lambda: Advance(b"", keeps_place=True),
}


@pytest.mark.parametrize("action", KEEPING.values(), ids=KEEPING.keys())
def test_what_keeps_its_place_keeps_its_rank(store: Store, clock: ManualClock, action: Callable[[], Action]) -> None:
    put_run(store, "a", aging_ms=AGING)
    held = claim(store)
    clock.advance(10)
    put_run(store, "b", aging_ms=AGING)
    settle(store, held, action())
    again = claim(store)
    assert (again.run_id, again.rank, again.place) == ("a", held.rank, held.place)


@pytest.mark.parametrize("delay_ms", [None, 5 * SECOND])
def test_a_fair_advance_and_a_retry_enter_anew(store: Store, clock: ManualClock, delay_ms: int | None) -> None:
    put_run(store, "a", aging_ms=AGING)
    failed = put_run(store, "failed", aging_ms=AGING)
    a, other = claims(store)
    clock.advance(10)
    settle(store, a, Advance(b"", delay_ms=delay_ms))
    settle(store, other, DeadLetter("broken"))
    clock.advance(10)
    store.requeue(failed, failed_run=True)
    ranks = {row.run_id: row.rank for row in claims(store)}
    entered = now_ms(clock) - 10 * SECOND + (delay_ms or 0)
    assert ranks == {"a": rank_of(1000, AGING, entered), "failed": rank_of(1000, AGING, now_ms(clock))}


def test_a_run_whose_priority_ages_is_not_held(store: Store) -> None:
    put_run(store, aging_ms=AGING)
    assert store.settle_and_claim([holding(store, claim(store), room=5)], ())[0] == [None]


def test_a_row_shows_its_key_and_whether_it_waits_for_it(store: Store) -> None:
    limit(store, concurrency=1)
    first, second = keyed(store, "a", "b")
    shown = [(row.limit_key, row.is_parked) for row in (stored(store, first), stored(store, second))]
    assert shown == [(KEY, False), (KEY, True)]


# -- limits meet signals, time limits and step settings

WAITS = Advance(b"", wait=Wait(WaitKind.SIGNAL, "go"))


def send(store: Store, name: str) -> SignalOutcome:
    return store.send_signal(QUEUE, name, NewSignal("go", b"word", None))


def test_a_run_that_gets_its_signal_while_its_key_is_full_is_parked_and_finds_it_later(store: Store) -> None:
    limit(store, concurrency=1)
    a, _ = keyed(store, "a", "b")
    settle(store, claim(store), WAITS)
    (b,) = claims(store)
    assert send(store, "a") is SignalOutcome.DELIVERED
    assert (parked(store), waiting_for(stored(store, a))) == (["a"], f"limit:{KEY}")
    assert claims(store) == []
    settle(store, b, Ack())
    (again,) = claims(store)
    assert again.wait is not None and again.wait.signal is not None
    assert (again.run_id, again.wait.signal.payload) == ("a", b"word")


def test_a_run_that_waits_for_a_signal_holds_no_slot(store: Store) -> None:
    limit(store, concurrency=1)
    keyed(store, "a", "b")
    settle(store, claim(store), WAITS)
    assert names(claims(store)) == ["b"]


def test_a_run_that_keeps_its_slot_keeps_it_while_it_waits_for_a_signal(store: Store) -> None:
    limit(store, concurrency=1, hold=HoldFor.RUN)
    keyed(store, "a", "b")
    settle(store, claim(store), WAITS)
    assert (claims(store), parked(store)) == ([], ["b"])
    send(store, "a")
    (again,) = claims(store)
    settle(store, again, Ack())
    assert names(claims(store)) == ["b"]
    check_counters(store)


def test_a_signal_that_is_there_puts_the_run_in_line_behind_those_of_its_key(store: Store) -> None:
    limit(store, concurrency=1)
    keyed(store, "a", "b")
    held = claim(store)
    send(store, "a")
    settle(store, held, WAITS)
    assert parked(store) == ["a"]


def test_a_run_that_is_woken_while_its_key_is_full_is_parked(store: Store) -> None:
    limit(store, concurrency=1)
    a, _ = keyed(store, "a", "b")
    settle(store, claim(store), Advance(b"", delay_ms=60 * SECOND))
    claim(store)
    assert store.wake(a)
    assert (parked(store), store.next_work(QUEUE)) == (["a"], None)
    check_counters(store)


def test_a_parked_run_past_its_deadline_ends(store: Store, clock: ManualClock) -> None:
    limit(store, concurrency=1)
    _, b, _ = (
        *keyed(store, "a"), *keyed(store, "b", limits=TimeLimits(deadline_after_ms=SECOND)), *keyed(store, "c"),
    )  # fmt: skip
    held = claim(store)
    clock.advance(2)
    assert (claims(store), status(store, b), parked(store)) == ([], JobStatus.DEAD, ["c"])
    settle(store, held, Ack())
    assert names(claims(store)) == ["c"]
    check_counters(store)


def test_a_run_in_line_past_its_deadline_lets_in_the_next_of_its_key(store: Store, clock: ManualClock) -> None:
    limit(store, concurrency=1)
    keyed(store, "a", limits=TimeLimits(deadline_after_ms=SECOND))
    keyed(store, "b")
    clock.advance(2)
    assert names(claims(store)) == ["b"]


def test_a_waiting_run_past_its_deadline_gives_its_kept_slot_back(store: Store, clock: ManualClock) -> None:
    limit(store, concurrency=1, hold=HoldFor.RUN)
    keyed(store, "a", limits=TimeLimits(deadline_after_ms=SECOND))
    keyed(store, "b")
    settle(store, claim(store), WAITS)
    clock.advance(2)
    assert names(claims(store)) == ["b"]


def test_a_run_past_its_deadline_ends_in_a_paused_queue(store: Store, clock: ManualClock) -> None:
    late = put_run(store, "late", limits=TimeLimits(deadline_after_ms=SECOND))
    put_run(store, "early")
    store.pause(QUEUE, is_paused=True)
    assert store.next_work(QUEUE) == DueIn(SECOND)
    clock.advance(2)
    assert store.next_work(QUEUE) == DueIn(0)
    assert (claims(store), status(store, late), store.next_work(QUEUE)) == ([], JobStatus.DEAD, None)


def test_a_deadline_does_not_wait_until_the_queue_has_room(store: Store, clock: ManualClock) -> None:
    limit(store, None, rate=Rate(1, 60 * SECOND))
    put_run(store, "first")
    claim(store)
    late = put_run(store, "late", limits=TimeLimits(deadline_after_ms=SECOND))
    assert store.next_work(QUEUE) == DueIn(SECOND)
    clock.advance(1)
    assert (claims(store), status(store, late)) == ([], JobStatus.DEAD)


def test_a_step_that_is_given_a_priority_enters_the_line_with_it(store: Store) -> None:
    limit(store, concurrency=2)
    keyed(store, "a", "b", "c")
    (a, b) = claims(store)
    settle(store, a, Advance(b"", settings=StepSettings(priority=1)))
    assert parked(store) == ["c"]
    settle(store, b, Ack())
    assert names(claims(store, 1)) == ["a"]


@pytest.mark.parametrize("keeps_place", [False, True])
def test_a_step_that_is_given_a_priority_ages_from_when_it_entered(
    store: Store, clock: ManualClock, keeps_place: bool
) -> None:
    put_run(store, "a", aging_ms=AGING)
    entered, held = now_ms(clock), claim(store)
    clock.advance(10)
    settle(store, held, Advance(b"", keeps_place=keeps_place, settings=StepSettings(priority=500)))
    assert claim(store).rank == rank_of(500, AGING, entered if keeps_place else now_ms(clock))


def test_a_run_that_gets_its_signal_enters_the_line_then(store: Store, clock: ManualClock) -> None:
    for name, wait in (("endless", WAITS), ("timed", Advance(b"", wait=Wait(WaitKind.SIGNAL, "go", 3_600_000)))):
        put_run(store, name, aging_ms=AGING)
        settle(store, claim(store), wait)
        clock.advance(10)
        send(store, name)
        assert claim(store).rank == rank_of(1000, AGING, now_ms(clock))


def test_a_run_that_ended_while_it_waited_takes_no_slot_when_it_is_retried(store: Store, clock: ManualClock) -> None:
    limit(store, concurrency=1)
    (a,) = keyed(store, "a", limits=TimeLimits(deadline_after_ms=SECOND))
    settle(store, claim(store), WAITS)
    clock.advance(2)
    assert claims(store) == []
    keyed(store, "b")
    store.requeue(a, failed_run=True)
    assert (status(store, a), parked(store), names(claims(store))) == (JobStatus.SCHEDULED, [], ["b"])
