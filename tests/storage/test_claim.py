"""pending -> claimed: who is first, what the claim carries, and what is promoted on the way."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, Nack, Release
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    LEASE_MS,
    QUEUE,
    claim,
    claims,
    counts_of,
    ending,
    job,
    now_ms,
    owner_of,
    put,
    put_one,
    put_run,
    settle,
    status,
    stored,
    writes_nothing,
)
from .conftest import MakeStore


def test_a_claim_charges_an_attempt_and_takes_a_lease(store: Store, clock: ManualClock) -> None:
    job_id = put_one(store, payload=b"p", headers='{"a":"1"}', priority=5, max_attempts=4)
    clock.advance(2)
    held = claim(store, lease_ms=7_000)
    assert (held.id, held.queue, held.payload, held.headers) == (job_id, QUEUE, b"p", '{"a":"1"}')
    assert (held.attempts, held.max_attempts, held.step, held.priority) == (1, 4, 0, 5)
    assert (held.claimed_ms, held.lease_until_ms) == (now_ms(clock), now_ms(clock) + 7_000)
    assert held.enqueued_ms == now_ms(clock) - 2_000
    assert (held.run_id, held.cancel_requested, held.last_error, held.damage) == (None, False, None, None)
    row = stored(store, job_id)
    assert (row.status, row.attempts, row.claimed_ms) == ("claimed", 1, held.claimed_ms)
    assert row.lease_until_ms == held.lease_until_ms
    assert counts_of(store) == Counts(claimed=1)


def test_nothing_to_claim_is_an_empty_answer_that_writes_nothing(store: Store) -> None:
    assert claims(store) == []
    put_one(store, "elsewhere")
    with writes_nothing(store):
        assert claims(store) == []
        assert claims(store, queue="never heard of") == []


def test_a_job_is_claimed_once(make_store: MakeStore) -> None:
    first, second = make_store(), make_store()
    put_one(first)
    assert len(claims(first)) == 1
    assert claims(first) == claims(second) == []


def test_lower_priorities_go_first_and_within_one_first_in_first_out(store: Store) -> None:
    ids = put(store, *(job(priority=priority) for priority in (1000, 100, 10_000, 100, 1000)))
    expected = [ids[position] for position in (1, 3, 0, 4, 2)]
    assert [row.id for row in claims(store)] == expected


def test_single_claims_and_batches_take_the_same_order(store: Store) -> None:
    ids = put(store, *(job(priority=priority) for priority in (5, 1, 5, 1, 3)))
    expected = [ids[position] for position in (1, 3, 4, 0, 2)]
    assert [claim(store).id, *(row.id for row in claims(store, 2)), *(row.id for row in claims(store))] == expected


def test_jobs_of_one_millisecond_keep_their_order_across_handles(make_store: MakeStore) -> None:
    # The clock stands still, so only the store's own counter can order them.
    handles = [make_store() for _ in range(3)]
    ids = [put_one(handles[number % 3]) for number in range(12)]
    assert [row.id for row in claims(handles[0])] == ids


def test_a_clock_that_steps_back_does_not_reorder_the_line(store: Store, clock: ManualClock) -> None:
    first = put_one(store)
    clock.advance(-3600)
    second = put_one(store)
    assert [row.id for row in claims(store)] == [first, second]


def test_a_limit_is_kept(store: Store) -> None:
    put(store, *(job() for _ in range(5)))
    assert len(claims(store, 3)) == 3
    assert counts_of(store) == Counts(pending=2, claimed=3)
    assert claims(store, 0) == []
    assert len(claims(store)) == 2


def test_tokens_are_unique_to_their_claim(store: Store) -> None:
    put(store, *(job(max_attempts=100) for _ in range(10)))
    seen: set[str] = set()
    for _ in range(3):
        held = claims(store)
        tokens = {row.token for row in held}
        assert len(tokens) == 10
        assert not tokens & seen
        seen |= tokens
        store.settle_and_claim([ending(row, Nack("again")) for row in held], [])


def test_a_released_claim_gets_another_token_though_its_attempt_repeats(store: Store) -> None:
    put_one(store)
    first = claim(store)
    settle(store, first, Release())
    second = claim(store)
    assert (first.attempts, second.attempts) == (1, 1)
    assert first.token != second.token


# Lanes


def test_the_first_lane_that_has_jobs_is_served_first(store: Store) -> None:
    low = put_one(store, "low", priority=1)
    high = put_one(store, "high", priority=10_000)
    assert [row.id for row in claims(store, 1, queue=("high", "low"))] == [high]
    assert [row.id for row in claims(store, 1, queue=("high", "low"))] == [low]


def test_one_request_fills_up_from_the_next_lane(store: Store) -> None:
    put(store, *(job("high") for _ in range(2)), *(job("low") for _ in range(2)))
    assert [row.queue for row in claims(store, 3, queue=("high", "low"))] == ["high", "high", "low"]


def test_each_lane_has_its_own_lease(store: Store, clock: ManualClock) -> None:
    put(store, job("a"), job("b"))
    request = ClaimRequest((LaneClaim("a", 1_000), LaneClaim("b", 9_000)), 10)
    held = store.settle_and_claim([], [request])[1]
    assert [row.lease_until_ms - now_ms(clock) for row in held] == [1_000, 9_000]


def test_several_requests_of_one_turn_do_not_meet(store: Store) -> None:
    put(store, *(job() for _ in range(5)))
    requests = [ClaimRequest((LaneClaim(QUEUE, LEASE_MS),), limit) for limit in (2, 2, 2)]
    held = store.settle_and_claim([], requests)[1]
    assert len({row.id for row in held}) == len(held) == 5


def test_a_turn_settles_before_it_claims(store: Store) -> None:
    job_id = put_one(store)
    held = claim(store)
    refusals, claimed = store.settle_and_claim(
        [ending(held, Advance(b"next"))], [ClaimRequest((LaneClaim(QUEUE, LEASE_MS),), 1)]
    )
    assert refusals == [None]
    assert [(row.id, row.step, row.payload) for row in claimed] == [(job_id, 1, b"next")]


def test_a_turn_claims_although_its_settlement_is_refused(store: Store) -> None:
    put(store, job(), job())
    held = claim(store)
    settle(store, held, Ack())
    refusals, claimed = store.settle_and_claim([ending(held, Ack())], [ClaimRequest((LaneClaim(QUEUE, LEASE_MS),), 1)])
    assert refusals[0] is not None
    assert len(claimed) == 1


# Promotion


def test_a_due_job_is_promoted_by_the_claim_and_one_not_due_is_not(store: Store, clock: ManualClock) -> None:
    job_id = put_one(store, run_at_ms=now_ms(clock) + 1_000)
    clock.advance(0.999)
    assert claims(store) == []
    clock.advance(0.001)
    assert claim(store).id == job_id


def test_a_promoted_job_stands_at_its_place_in_line(store: Store, clock: ManualClock) -> None:
    early = put_one(store, run_at_ms=now_ms(clock) + 1_000)
    late = put_one(store)
    clock.advance(1)
    assert [row.id for row in claims(store)] == [early, late]


def test_promotion_goes_at_most_five_hundred_a_transaction_in_order_of_due_time(
    store: Store, clock: ManualClock
) -> None:
    start = now_ms(clock)
    ids = put(store, *(job(run_at_ms=start + 2_000 - number) for number in range(1_200)))
    clock.advance(10)
    assert claims(store, 0) == []
    assert counts_of(store) == Counts(pending=500, scheduled=700)
    assert all(status(store, job_id) == "pending" for job_id in ids[-500:]), "the first due are promoted first"
    claims(store, 0)
    assert counts_of(store) == Counts(pending=1_000, scheduled=200)
    claims(store, 0)
    assert counts_of(store) == Counts(pending=1_200)


def test_a_claim_promotes_only_in_its_lanes(store: Store, clock: ManualClock) -> None:
    elsewhere = put_one(store, "elsewhere", run_at_ms=now_ms(clock) + 1)
    clock.advance(1)
    assert claims(store) == []
    assert status(store, elsewhere) == "scheduled"


def test_a_claimed_job_carries_why_its_last_attempt_failed(store: Store) -> None:
    put_one(store)
    settle(store, claim(store), Nack("boom"))
    held = claim(store)
    assert (held.attempts, held.last_error) == (2, "boom")


# Renewal


def test_a_renewal_moves_the_lease_of_the_tokens_it_names(store: Store, clock: ManualClock) -> None:
    put(store, job(), job(), job())
    first, second, third = claims(store)
    clock.advance(10)
    until, renewed = store.renew([first.token, third.token], 60_000)
    assert until == now_ms(clock) + 60_000
    assert renewed == {first.token, third.token}
    assert stored(store, first.id).lease_until_ms == stored(store, third.id).lease_until_ms == until
    assert stored(store, second.id).lease_until_ms == second.lease_until_ms
    assert {row.token for row in store.running()} == {first.token, second.token, third.token}


def test_a_renewal_of_ended_or_unknown_claims_writes_nothing(store: Store) -> None:
    put(store, job(), job())
    ended, live = claims(store)
    settle(store, ended, Nack("boom"))
    with writes_nothing(store):
        assert store.renew([ended.token, "nonsense", "", "1.2.3", live.token + "0"], 60_000)[1] == frozenset()
        assert store.renew([], 60_000)[1] == frozenset()


def test_a_renewal_never_touches_a_later_claim_of_the_same_job(store: Store) -> None:
    put_one(store)
    old = claim(store)
    settle(store, old, Nack("boom"))
    claim(store)
    with writes_nothing(store):
        assert store.renew([old.token], 999_000)[1] == frozenset()


def test_more_tokens_than_one_page_of_them_are_renewed_in_one_call(store: Store) -> None:
    put(store, *(job() for _ in range(1_500)))
    tokens = {row.token for row in claims(store)}
    assert store.renew(tokens, 60_000)[1] == tokens


# Who holds what


def test_running_tells_ones_own_claims_from_those_of_others(make_store: MakeStore) -> None:
    mine, theirs = make_store(), make_store()
    put(mine, job(), job(), job())
    (a,), (b,) = claims(mine, 1), claims(theirs, 1)
    bare = claim(mine, is_bare=True)
    assert [row.token for row in mine.running()] == [a.token]
    assert [row.token for row in theirs.running()] == [b.token]
    assert owner_of(mine) != owner_of(theirs)
    assert (stored(mine, a.id).owner, stored(mine, b.id).owner) == (owner_of(mine), owner_of(theirs))
    assert bare.token not in {row.token for row in (*mine.running(), *theirs.running())}, "it has no worker loop"
    assert stored(mine, bare.id).owner is None


def test_a_run_is_claimed_by_name(store: Store) -> None:
    put_run(store, "r")
    assert claim(store).run_id == "r"
