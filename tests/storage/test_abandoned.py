"""Whose claims may be taken over now: what counts as evidence, and what does not."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.storage.port.settlement import Ack, Nack
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import LEASE_MS, claim, claims, job, owner_of, put, put_one, put_run, settle, status, stored
from .conftest import MakeStore
from .deaths import TOLD, Deaths, How


def test_there_is_no_evidence_where_nothing_is_claimed(store: Store) -> None:
    put_one(store)
    assert not store.abandoned_claims()


def test_what_living_handles_hold_is_not_abandoned(make_store: MakeStore) -> None:
    mine, theirs = make_store(), make_store()
    put(mine, job(), job(), job())
    claim(mine)
    claim(theirs)
    claim(theirs, is_bare=True)
    for store in (mine, theirs):
        for suspect in (None, owner_of(mine), owner_of(theirs), "nobody"):
            assert not store.abandoned_claims(suspect=suspect)


def test_what_is_overdue_of_a_living_handle_is_not_abandoned_at_the_first_look(
    make_store: MakeStore, clock: ManualClock
) -> None:
    mine, theirs = make_store(), make_store()
    put_one(mine)
    claim(theirs)
    clock.advance(1_000 * LEASE_MS)
    assert not mine.abandoned_claims()
    assert not mine.abandoned_claims(suspect=owner_of(theirs))


@pytest.mark.parametrize("how", TOLD)
def test_evidence_is_true_once_there_is_a_claim_to_take_over(store: Store, deaths: Deaths, how: How) -> None:
    put_run(store)
    assert deaths.let_die(how, deaths.take(how))


@pytest.mark.parametrize("how", TOLD)
def test_evidence_is_of_that_moment_and_is_checked_again_when_it_is_used(
    store: Store, make_store: MakeStore, deaths: Deaths, how: How
) -> None:
    job_id = put_run(store)
    held = deaths.take(how)
    abandoned = deaths.let_die(how, held)
    (again,) = claims(make_store(), abandoned=abandoned)
    assert again.id == job_id
    assert claims(store, abandoned=abandoned) == [], "the claim that took it over is another"
    assert status(store, job_id) == "claimed"


@pytest.mark.parametrize("how", TOLD)
def test_evidence_may_be_used_by_a_claim_of_several_lanes(store: Store, deaths: Deaths, how: How) -> None:
    put(store, job("a"), job("b"))
    held = deaths.take(how, queue="a")
    other = claim(store, queue="b")
    found = claims(store, queue=("b", "a"), abandoned=deaths.let_die(how, held))
    assert [row.id for row in found] == [held.id]
    assert status(store, other.id) == "claimed"


# Claims that this handle gives up


def test_an_own_claim_that_was_given_up_is_taken_back_as_from_the_dead(store: Store) -> None:
    put(store, job(), job())
    given_up, kept = claims(store)
    (again,) = claims(store, abandoned=store.abandoned_claims(own={given_up.token}))
    assert (again.id, again.attempts) == (given_up.id, 2), "the attempt counts"
    assert [each.outcome for each in store.history(again.id)] == ["reaped"]
    assert status(store, kept.id) == "claimed"


def test_an_own_claim_that_was_given_up_on_its_last_attempt_is_a_dead_letter(store: Store) -> None:
    job_id = put_run(store, max_attempts=1)
    held = claim(store)
    claims(store, 0, abandoned=store.abandoned_claims(own=[held.token]))
    assert (stored(store, job_id).status, stored(store, job_id).verdict) == ("dead", "failed")


def test_a_claim_that_is_not_given_up_is_not_abandoned_by_its_own_handle(store: Store) -> None:
    put_run(store)
    claim(store)
    assert not store.abandoned_claims()
    assert not store.abandoned_claims(own=())


def test_giving_up_what_has_ended_or_was_never_held_is_no_evidence(store: Store) -> None:
    put(store, job(), job())
    ended, again = claims(store)
    settle(store, ended, Ack())
    settle(store, again, Nack("boom"))
    claim(store)
    assert not store.abandoned_claims(own={ended.token, again.token, "nonsense", ""})


def test_what_is_given_up_counts_beside_what_the_dead_have_left(make_store: MakeStore) -> None:
    mine, theirs = make_store(), make_store()
    ids = put(mine, job(), job(), job())
    given_up, _ = claim(mine), claim(theirs)
    claim(mine)
    theirs.close()
    found = claims(mine, abandoned=mine.abandoned_claims(own={given_up.token}))
    assert [row.id for row in found] == ids[:2]
