"""Whose claim is taken back, and what becomes of the job: cancelled, dead, or back in line."""

from __future__ import annotations

from typing import Literal

import pytest

from taquba_workflow_sync.errors import ClaimLostError
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.presence import NOTHING_ABANDONED, Abandoned
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.settlement import Ack, Nack
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    LEASE_MS,
    claim,
    claims,
    counts_of,
    job,
    owner_of,
    put,
    put_one,
    put_run,
    refusal,
    settle,
    status,
    stored,
    writes_nothing,
)
from .conftest import MakeStore
from .test_enqueue import now_ms

How = Literal["owner", "token", "bare"]
HOWS: list[How] = ["owner", "token", "bare"]


def take(store: Store, how: How, **options: object) -> ClaimedRow:
    return claim(store, is_bare=how == "bare", **options)  # type: ignore[arg-type]  # passed on as they are


def death(store: Store, how: How, held: ClaimedRow, clock: ManualClock) -> Abandoned:
    """Make the claim dead in one of the three ways, and say what the caller knows of it."""
    match how:
        case "owner":
            return Abandoned(owners=frozenset({owner_of(store)}))
        case "token":
            return Abandoned(tokens={held.token: held.lease_until_ms})
        case "bare":
            clock.advance(LEASE_MS / 1000)
            return NOTHING_ABANDONED


def reap(store: Store, abandoned: Abandoned, queue: str = "steps") -> None:
    assert claims(store, 0, queue=queue, abandoned=abandoned) == []


@pytest.mark.parametrize("how", HOWS)
def test_a_dead_claim_goes_back_in_line_with_its_attempt_charged(store: Store, clock: ManualClock, how: How) -> None:
    job_id = put_run(store, max_attempts=3)
    held = take(store, how)
    abandoned = death(store, how, held, clock)
    reap(store, abandoned)
    row = stored(store, job_id)
    assert (row.status, row.attempts, row.step, row.payload) == ("pending", 1, 0, b"input")
    assert (row.owner, row.lease_until_ms, row.finished_ms) == (None, None, None)
    assert row.last_error
    assert counts_of(store) == Counts(pending=1)
    (attempt,) = store.history(job_id)
    assert (attempt.outcome, attempt.attempt, attempt.error) == (AttemptOutcome.REAPED, 1, row.last_error)
    assert attempt[3:5] == (held.claimed_ms, now_ms(clock))
    assert isinstance(refusal(store, held, Ack()), ClaimLostError)


@pytest.mark.parametrize("how", HOWS)
def test_a_claim_takes_the_reaped_job_in_the_same_turn(store: Store, clock: ManualClock, how: How) -> None:
    job_id = put_run(store)
    held = take(store, how)
    (again,) = claims(store, abandoned=death(store, how, held, clock))
    assert (again.id, again.attempts) == (job_id, 2)
    assert again.token != held.token


@pytest.mark.parametrize("how", HOWS)
def test_a_reaped_job_keeps_its_place(store: Store, clock: ManualClock, how: How) -> None:
    ids = put(store, *(job() for _ in range(3)))
    held = take(store, how)
    assert [row.id for row in claims(store, abandoned=death(store, how, held, clock))] == ids


@pytest.mark.parametrize("how", HOWS)
def test_a_dead_claim_on_its_last_attempt_is_a_dead_letter(store: Store, clock: ManualClock, how: How) -> None:
    job_id = put_run(store, max_attempts=2)
    settle(store, take(store, how), Nack("boom"))
    held = take(store, how)
    reap(store, death(store, how, held, clock))
    row = stored(store, job_id)
    assert (row.status, row.attempts, row.verdict, row.termination) == ("dead", 2, "failed", 1)
    assert row.last_error is not None and "2 of 2" in row.last_error
    assert counts_of(store) == Counts(dead=1)
    assert [each.outcome for each in store.history(job_id)] == ["retried", "reaped"]


@pytest.mark.parametrize("how", HOWS)
def test_a_step_that_kills_its_worker_every_time_ends_dead(store: Store, clock: ManualClock, how: How) -> None:
    job_id = put_one(store, max_attempts=3)
    for attempt in (1, 2, 3):
        held = take(store, how)
        assert held.attempts == attempt
        reap(store, death(store, how, held, clock))
    assert status(store, job_id) == "dead"
    assert claims(store) == []


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("max_attempts", [1, 3])
def test_a_dead_claim_that_was_asked_to_cancel_is_cancelled(
    store: Store, clock: ManualClock, how: How, max_attempts: int
) -> None:
    job_id = put_run(store, max_attempts=max_attempts)
    held = take(store, how)
    abandoned = death(store, how, held, clock)
    store.cancel(job_id, NOTHING_ABANDONED, None)
    reap(store, abandoned)
    row = stored(store, job_id)
    assert (row.status, row.termination, row.last_error) == ("cancelled", 1, None)
    assert counts_of(store) == Counts(cancelled=1)
    assert [each.outcome for each in store.history(job_id)] == ["reaped"]


@pytest.mark.parametrize("how", HOWS)
def test_a_bare_job_that_keeps_nothing_is_gone_when_reaped_as_cancelled(
    store: Store, clock: ManualClock, how: How
) -> None:
    job_id = put_one(store)
    held = take(store, how)
    abandoned = death(store, how, held, clock)
    store.cancel(job_id, NOTHING_ABANDONED, None)
    reap(store, abandoned)
    assert store.get(job_id) is None
    assert counts_of(store) == Counts(cancelled=1)


# -- who is spared ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["owner", "token"])
def test_a_claim_whose_step_runs_in_this_process_is_never_reaped(
    store: Store, clock: ManualClock, running: set[str], how: How
) -> None:
    put_run(store)
    held = take(store, how)
    running.add(held.token)
    clock.advance(10 * LEASE_MS)
    with writes_nothing(store):
        reap(store, death(store, how, held, clock))
    running.discard(held.token)
    reap(store, death(store, how, held, clock))
    assert status(store, held.id) == "pending"


def test_an_expired_lease_of_a_worker_loop_alone_takes_nothing_back(store: Store, clock: ManualClock) -> None:
    put_run(store)
    held = claim(store)
    clock.advance(1_000 * LEASE_MS)
    with writes_nothing(store):
        reap(store, NOTHING_ABANDONED)
    assert refusal(store, held, Ack()) is None


def test_a_bare_claim_is_spared_until_its_lease_is_over(store: Store, clock: ManualClock) -> None:
    put_run(store)
    claim(store, is_bare=True)
    clock.advance(LEASE_MS / 1000 - 0.001)
    with writes_nothing(store):
        reap(store, Abandoned(frozenset({"someone"}), {"something": 0}))
    clock.advance(0.001)
    assert len(claims(store)) == 1


def test_a_renewed_bare_claim_is_spared_for_as_long_as_it_was_renewed(store: Store, clock: ManualClock) -> None:
    put_run(store)
    held = claim(store, is_bare=True)
    clock.advance(LEASE_MS / 1000 - 0.001)
    store.renew([held.token], LEASE_MS)
    clock.advance(LEASE_MS / 1000 - 0.001)
    assert claims(store) == []
    clock.advance(0.001)
    assert len(claims(store)) == 1


def test_only_claims_of_the_dead_owner_are_taken(make_store: MakeStore) -> None:
    dead, live = make_store(), make_store()
    put(live, *(job() for _ in range(4)))
    gone, kept = claims(dead, 2), claims(live, 2)
    reap(live, Abandoned(owners=frozenset({owner_of(dead)})))
    assert [status(live, row.id) for row in gone] == ["pending", "pending"]
    assert [status(live, row.id) for row in kept] == ["claimed", "claimed"]


def test_only_the_token_named_is_taken_not_a_later_claim_of_its_job(store: Store) -> None:
    put_run(store)
    old = claim(store)
    settle(store, old, Nack("boom"))
    claim(store)
    with writes_nothing(store):
        reap(store, Abandoned(tokens={old.token: old.lease_until_ms, "nonsense": 0, "": 0}))


@pytest.mark.parametrize("how", ["claim", "cancel"])
def test_a_claim_renewed_after_it_was_found_abandoned_is_spared(
    make_store: MakeStore, clock: ManualClock, how: str
) -> None:
    """Between the look and the transaction the owner, stopped until then, has renewed its lease."""
    live, hasty = make_store(), make_store()
    put_run(live)
    held = claim(live)
    abandoned = Abandoned(tokens={held.token: held.lease_until_ms})
    clock.advance(0.001)
    live.renew([held.token], LEASE_MS)
    if how == "claim":
        with writes_nothing(live):
            reap(hasty, abandoned)
    else:
        assert hasty.cancel(held.id, abandoned, None).token == held.token
    assert status(live, held.id) == "claimed"
    assert refusal(live, held, Ack()) is None


@pytest.mark.parametrize("how", HOWS)
def test_a_claim_reaps_only_in_its_lanes(store: Store, clock: ManualClock, how: How) -> None:
    put_one(store, "elsewhere")
    held = take(store, how, queue="elsewhere")
    abandoned = death(store, how, held, clock)
    put_one(store)
    with writes_nothing(store):
        reap(store, abandoned)
    reap(store, abandoned, "elsewhere")
    assert status(store, held.id) == "pending"


def test_all_claims_of_a_dead_owner_come_back_however_many(make_store: MakeStore) -> None:
    dead, live = make_store(), make_store()
    ids = put(live, *(job() for _ in range(1_100)))
    claims(dead)
    abandoned = Abandoned(owners=frozenset({owner_of(dead)}))
    for _ in range(5):
        reap(live, abandoned)
    assert counts_of(live) == Counts(pending=1_100)
    assert [row.id for row in claims(live)] == ids


@pytest.mark.parametrize("flagged", [False, True])
def test_what_the_dead_owner_settled_before_stays_settled(make_store: MakeStore, flagged: bool) -> None:
    dead, live = make_store(), make_store()
    job_id = put_run(live)
    held = claim(dead)
    owner = owner_of(dead)
    if flagged:
        live.cancel(job_id, NOTHING_ABANDONED, None)
    settle(dead, held, Ack(result=b"x"))
    with writes_nothing(live):
        reap(live, Abandoned(frozenset({owner}), {held.token: held.lease_until_ms}))
    assert stored(live, job_id).status == JobStatus.DONE
