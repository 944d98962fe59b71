"""Every end of a claim is fenced by its token: a stale settlement answers ClaimLostError and writes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from taquba_workflow_sync.errors import CancelRequestedError, ClaimLostError
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Nack,
    Release,
    SettleCancelled,
)
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    ACTIONS,
    LEASE_MS,
    claim,
    claims,
    counts_of,
    dump,
    ending,
    job,
    put,
    put_one,
    put_run,
    refusal,
    run,
    settle,
    status,
    stored,
    subscribe,
    writes_nothing,
)

Staling = Callable[[Store, ClaimedRow], ClaimedRow]


def settled_before(store: Store, held: ClaimedRow) -> ClaimedRow:
    settle(store, held, Ack(result=b"first"))
    return held


def died_before(store: Store, held: ClaimedRow) -> ClaimedRow:
    settle(store, held, DeadLetter("first"))
    return held


def cancelled_before(store: Store, held: ClaimedRow) -> ClaimedRow:
    settle(store, held, SettleCancelled("first"))
    return held


def advanced_before(store: Store, held: ClaimedRow) -> ClaimedRow:
    settle(store, held, Advance(b"first"))
    return held


def released_before(store: Store, held: ClaimedRow) -> ClaimedRow:
    settle(store, held, Release())
    return held


def backed_off_before(store: Store, held: ClaimedRow) -> ClaimedRow:
    settle(store, held, Nack("first", 60_000))
    return held


def claimed_again(store: Store, held: ClaimedRow) -> ClaimedRow:
    settle(store, held, Nack("first"))
    assert claim(store).id == held.id
    return held


def claimed_again_and_asked_to_cancel(store: Store, held: ClaimedRow) -> ClaimedRow:
    claimed_again(store, held)
    store.cancel(held.id)
    return held


def taken_over(store: Store, held: ClaimedRow) -> ClaimedRow:
    (again,) = claims(store, abandoned=store.abandoned_claims(own={held.token}))
    assert again.id == held.id
    return held


def wrong_token(store: Store, held: ClaimedRow) -> ClaimedRow:
    return held._replace(token=f"0{held.token}")


def empty_token(store: Store, held: ClaimedRow) -> ClaimedRow:
    return held._replace(token="")


def wrong_job(store: Store, held: ClaimedRow) -> ClaimedRow:
    return held._replace(id=put_one(store, "elsewhere"))


def unknown_job(store: Store, held: ClaimedRow) -> ClaimedRow:
    return held._replace(id="never-seen")


STALE: list[Staling] = [
    settled_before, died_before, cancelled_before, advanced_before, released_before, backed_off_before, claimed_again,
    claimed_again_and_asked_to_cancel, taken_over, wrong_token, empty_token, wrong_job, unknown_job,
]  # fmt: skip


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
@pytest.mark.parametrize("make_stale", STALE)
@pytest.mark.parametrize("yields", [False, True], ids=["", "yielding"])
def test_a_stale_settlement_writes_nothing(store: Store, action: Action, make_stale: Staling, yields: bool) -> None:
    subscribe(store)
    put_run(store, "r", max_attempts=9)
    stale = make_stale(store, claim(store))
    with writes_nothing(store):
        assert isinstance(refusal(store, stale, action, yields_to_cancel=yields), ClaimLostError)


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
@pytest.mark.parametrize("twice", [1, 2])
def test_of_one_claim_settled_twice_in_a_turn_exactly_one_settlement_holds(
    store: Store, action: Action, twice: int
) -> None:
    put(store, *(run(f"r{number}") for number in range(twice)))
    held = claims(store)
    # All yield, so that an engine that applies plain advances in bulk meets the duplicates there.
    both = [ending(row, action, yields_to_cancel=True) for row in held] * 2
    refusals, _ = store.settle_and_claim(both, [])
    assert sum(error is None for error in refusals) == twice
    assert sum(isinstance(error, ClaimLostError) for error in refusals) == twice
    once = dump(store)
    assert all(len(ended) <= 1 for ended in once["history"].values())


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
@pytest.mark.parametrize("is_advance_first", [False, True])
def test_an_advance_and_another_end_of_one_claim_in_a_turn_do_not_both_hold(
    store: Store, action: Action, is_advance_first: bool
) -> None:
    put(store, run("a"), run("b"))
    held, other = claims(store)
    ends = [ending(held, Advance(b"one"), yields_to_cancel=True), ending(held, action)]
    # A second plain advance, so that an engine that applies several in bulk does so here.
    bulk = ending(other, Advance(b"x"), yields_to_cancel=True)
    refusals, _ = store.settle_and_claim([bulk, *(ends if is_advance_first else ends[::-1])], [])
    assert refusals[0] is None
    assert [type(error) for error in refusals[1:] if error is not None] == [ClaimLostError]
    advance_holds = refusals[1 if is_advance_first else 2] is None
    row = store.get(held.id)
    assert (row is not None and row.payload == b"one") == advance_holds, "the answers tell what was applied"
    assert len(store.history(held.id)) <= 1


def test_the_one_of_two_advances_that_is_answered_well_is_the_one_that_holds(store: Store) -> None:
    put(store, run("a"), run("b"))
    held, other = claims(store)
    settlements = [ending(row, Advance(text), yields_to_cancel=True)
                   for row, text in ((held, b"one"), (other, b"x"), (held, b"two"))]  # fmt: skip
    refusals, _ = store.settle_and_claim(settlements, [])
    winner = b"one" if refusals[0] is None else b"two"
    assert (stored(store, held.id).payload, stored(store, held.id).step) == (winner, 1)
    assert sum(error is None for error in refusals) == 2


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
@pytest.mark.parametrize("is_bare", [False, True], ids=["", "bare"])
def test_an_expired_lease_that_nobody_took_back_still_settles(
    store: Store, clock: ManualClock, action: Action, is_bare: bool
) -> None:
    put_run(store)
    held = claim(store, is_bare=is_bare)
    clock.advance(LEASE_MS)
    assert refusal(store, held, action) is None


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
def test_a_claim_of_one_handle_settles_through_another(make_store: Callable[[], Store], action: Action) -> None:
    first, second = make_store(), make_store()
    put_run(first)
    held = claim(first)
    assert refusal(second, held, action) is None
    assert isinstance(refusal(first, held, action), ClaimLostError)


def test_a_refused_settlement_harms_no_other_of_its_turn(store: Store) -> None:
    put(store, *(run(f"r{number}") for number in range(len(ACTIONS) + 2)))
    held = claims(store)
    stale, asked, *good = held
    settle(store, stale, Ack())
    store.cancel(asked.id)
    settlements = [ending(row, action) for row, action in zip(good, ACTIONS.values(), strict=True)]
    settlements.insert(3, ending(stale, Advance(b"late"), yields_to_cancel=True))
    settlements.insert(6, ending(asked, Advance(b"late"), yields_to_cancel=True))
    refusals, _ = store.settle_and_claim(settlements, [])
    assert isinstance(refusals.pop(6), CancelRequestedError)
    assert isinstance(refusals.pop(3), ClaimLostError)
    assert refusals == [None] * len(ACTIONS)
    assert status(store, asked.id) == "claimed"
    assert stored(store, stale.id).payload == b"input"


def test_many_plain_advances_with_stale_ones_between_them(store: Store) -> None:
    put(store, *(run(f"r{number}") for number in range(150)))
    held = claims(store)
    for row in held[::7]:
        settle(store, row, Nack("first"))
    refusals, _ = store.settle_and_claim([ending(row, Advance(b"next"), yields_to_cancel=True) for row in held], [])
    for number, (row, error) in enumerate(zip(held, refusals, strict=True)):
        if number % 7:
            assert error is None
            now = stored(store, row.id)
            assert (now.step, now.attempts) == (1, 0), "one step on, no attempts"
        else:
            assert isinstance(error, ClaimLostError)
            now = stored(store, row.id)
            assert (now.step, now.attempts) == (0, 1)
    assert counts_of(store).pending == 150


def test_a_settlement_is_built_on_the_stored_row_not_on_the_claims_copy(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.cancel(job_id)
    # The claim's copy knows of no cancellation; the row does, and keeps it.
    settle(store, held, Nack("boom"))
    row = stored(store, job_id)
    assert (row.cancel_requested, row.status) == (True, "pending")
    assert claim(store).cancel_requested is True


def test_a_settlement_of_a_row_that_was_swept_is_lost(store: Store) -> None:
    put_one(store)
    held = claim(store)
    settle(store, held, Ack())
    successor = put(store, job(payload=b"successor"))
    with writes_nothing(store):
        assert isinstance(refusal(store, held, Ack()), ClaimLostError)
    assert status(store, successor[0]) == "pending"
