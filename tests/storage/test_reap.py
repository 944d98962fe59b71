"""Whose claim is taken back, and what becomes of the job: cancelled, dead, or back in line."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from taquba_workflow_sync.errors import ClaimLostError
from taquba_workflow_sync.storage.port.claim import NOTHING_RUNS, ClaimRequest, LaneClaim, TakenBack
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.settings import StepSettings
from taquba_workflow_sync.storage.port.settlement import Ack, Nack
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.timing import TimeLimits
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    LEASE_MS,
    QUEUE,
    claim,
    claims,
    counts_of,
    job,
    now_ms,
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
from .deaths import HOWS, SHORT_LEASE_MS, TOLD, Deaths, How, watched


def reap(
    store: Store, abandoned: Abandoned | None, queue: str = "steps", never_reap: Collection[str] = NOTHING_RUNS
) -> None:
    assert claims(store, 0, queue=queue, abandoned=abandoned, never_reap=never_reap) == []


@pytest.mark.parametrize("how", HOWS)
def test_an_abandoned_claim_goes_back_in_line_with_its_attempt_charged(
    store: Store, clock: ManualClock, deaths: Deaths, how: How
) -> None:
    job_id = put_run(store, max_attempts=3)
    held = deaths.take(how)
    abandoned = deaths.let_die(how, held)
    reap(store, abandoned)
    row = stored(store, job_id)
    assert (row.status, row.attempts, row.step, row.payload) == ("pending", 1, 0, b"input")
    assert (row.owner, row.lease_until_ms, row.finished_ms) == (None, None, None)
    assert row.last_error
    assert counts_of(store) == Counts(pending=1)
    (attempt,) = store.history(job_id)
    assert (attempt.outcome, attempt.attempt, attempt.error) == (AttemptOutcome.REAPED, 1, row.last_error)
    assert (attempt.claimed_ms, attempt.ended_ms) == (held.claimed_ms, now_ms(clock))
    assert isinstance(refusal(store, held, Ack()), ClaimLostError)


@pytest.mark.parametrize("how", HOWS)
def test_a_claim_takes_the_reaped_job_in_the_same_turn(store: Store, deaths: Deaths, how: How) -> None:
    job_id = put_run(store)
    held = deaths.take(how)
    (again,) = claims(store, abandoned=deaths.let_die(how, held))
    assert (again.id, again.attempts) == (job_id, 2)
    assert again.token != held.token


@pytest.mark.parametrize("how", HOWS)
def test_a_reaped_job_keeps_its_place(store: Store, deaths: Deaths, how: How) -> None:
    ids = put(store, *(job() for _ in range(3)))
    held = deaths.take(how)
    assert [row.id for row in claims(store, abandoned=deaths.let_die(how, held))] == ids


@pytest.mark.parametrize("how", HOWS)
def test_a_dead_claim_on_its_last_attempt_is_a_dead_letter(store: Store, deaths: Deaths, how: How) -> None:
    job_id = put_run(store, max_attempts=2)
    settle(store, deaths.take(how), Nack("boom"))
    held = deaths.take(how)
    reap(store, deaths.let_die(how, held))
    row = stored(store, job_id)
    assert (row.status, row.attempts, row.verdict, row.termination) == ("dead", 2, "failed", 1)
    assert row.last_error is not None and "2 of 2" in row.last_error
    assert counts_of(store) == Counts(dead=1)
    assert [each.outcome for each in store.history(job_id)] == ["retried", "reaped"]


@pytest.mark.parametrize("how", HOWS)
def test_a_step_that_kills_its_worker_every_time_ends_dead(store: Store, deaths: Deaths, how: How) -> None:
    job_id = put_one(store, max_attempts=3)
    for attempt in (1, 2, 3):
        held = deaths.take(how)
        assert held.attempts == attempt
        reap(store, deaths.let_die(how, held))
    assert status(store, job_id) == "dead"
    assert claims(store) == []


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("max_attempts", [1, 3])
def test_a_dead_claim_that_was_asked_to_cancel_is_cancelled(
    store: Store, deaths: Deaths, how: How, max_attempts: int
) -> None:
    job_id = put_run(store, max_attempts=max_attempts)
    held = deaths.take(how)
    abandoned = deaths.let_die(how, held)
    store.cancel(job_id)
    reap(store, abandoned)
    row = stored(store, job_id)
    assert (row.status, row.termination, row.last_error) == ("cancelled", 1, None)
    assert counts_of(store) == Counts(cancelled=1)
    assert [each.outcome for each in store.history(job_id)] == ["reaped"]


@pytest.mark.parametrize("how", HOWS)
def test_a_bare_job_that_keeps_nothing_is_gone_when_reaped_as_cancelled(store: Store, deaths: Deaths, how: How) -> None:
    job_id = put_one(store)
    held = deaths.take(how)
    abandoned = deaths.let_die(how, held)
    store.cancel(job_id)
    reap(store, abandoned)
    assert store.get(job_id) is None
    assert counts_of(store) == Counts(cancelled=1)


# Who is spared


@pytest.mark.parametrize("how", TOLD)
def test_a_claim_whose_step_runs_in_this_process_is_never_reaped(
    store: Store, clock: ManualClock, deaths: Deaths, how: How
) -> None:
    put_run(store)
    held = deaths.take(how)
    clock.advance(10 * LEASE_MS)
    abandoned = deaths.let_die(how, held)
    with writes_nothing(store):
        reap(store, abandoned, never_reap={"another", held.token})
    reap(store, abandoned, never_reap={"another"})
    assert status(store, held.id) == "pending"


def test_an_expired_lease_of_a_worker_loop_alone_takes_nothing_back(store: Store, clock: ManualClock) -> None:
    put_run(store)
    held = claim(store)
    clock.advance(1_000 * LEASE_MS)
    with writes_nothing(store):
        reap(store, None)
        reap(store, store.abandoned_claims())
    assert refusal(store, held, Ack()) is None


def test_a_bare_claim_is_spared_until_its_lease_is_over(store: Store, clock: ManualClock) -> None:
    put_run(store)
    claim(store, is_bare=True)
    clock.advance(LEASE_MS / 1000 - 0.001)
    with writes_nothing(store):
        reap(store, store.abandoned_claims(own={"something"}))
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
    dead.close()
    reap(live, live.abandoned_claims())
    assert [status(live, row.id) for row in gone] == ["pending", "pending"]
    assert [status(live, row.id) for row in kept] == ["claimed", "claimed"]


def test_only_the_token_named_is_taken_not_a_later_claim_of_its_job(store: Store) -> None:
    put_run(store)
    old = claim(store)
    before = store.abandoned_claims(own={old.token})
    settle(store, old, Nack("boom"))
    claim(store)
    with writes_nothing(store):
        reap(store, before)
        reap(store, store.abandoned_claims(own={old.token, "nonsense", ""}))


@pytest.mark.parametrize("how", ["claim", "cancel"])
def test_a_claim_renewed_after_it_was_found_abandoned_is_spared(
    make_store: MakeStore, clock: ManualClock, how: str
) -> None:
    """Between the look and the transaction the owner, stopped until then, has renewed its lease."""
    live, hasty = make_store(), make_store()
    put_run(live)
    held = claim(live, lease_ms=SHORT_LEASE_MS)
    clock.advance(SHORT_LEASE_MS / 1000)
    abandoned = watched(hasty)
    live.renew([held.token], LEASE_MS)
    if how == "claim":
        with writes_nothing(live):
            reap(hasty, abandoned)
    else:
        assert hasty.cancel(held.id, abandoned=abandoned).token == held.token
        assert not hasty.abandoned_claims()
    assert status(live, held.id) == "claimed"
    assert refusal(live, held, Ack()) is None


@pytest.mark.parametrize("how", HOWS)
def test_a_claim_reaps_only_in_its_lanes(store: Store, deaths: Deaths, how: How) -> None:
    put_one(store, "elsewhere")
    held = deaths.take(how, queue="elsewhere")
    abandoned = deaths.let_die(how, held)
    put_one(store)
    with writes_nothing(store):
        reap(store, abandoned)
    reap(store, abandoned, "elsewhere")
    assert status(store, held.id) == "pending"


def test_all_claims_of_a_dead_owner_come_back_however_many(make_store: MakeStore) -> None:
    dead, live = make_store(), make_store()
    ids = put(live, *(job() for _ in range(1_100)))
    claims(dead)
    dead.close()
    for _ in range(5):
        reap(live, live.abandoned_claims())
    assert counts_of(live) == Counts(pending=1_100)
    assert [row.id for row in claims(live)] == ids


@pytest.mark.parametrize("flagged", [False, True])
def test_what_the_dead_owner_settled_before_stays_settled(make_store: MakeStore, flagged: bool) -> None:
    dead, live = make_store(), make_store()
    put_one(live, "elsewhere")
    claim(dead, queue="elsewhere")  # so that it is still to be taken from
    job_id = put_run(live)
    held = claim(dead)
    if flagged:
        live.cancel(job_id)
    dead.close()
    abandoned = live.abandoned_claims()
    assert abandoned
    settle(live, held, Ack(result=b"x"))
    with writes_nothing(live):
        reap(live, abandoned)
    assert stored(live, job_id).status == JobStatus.DONE


# What a claim tells


def told(store: Store, abandoned: Abandoned | None = None) -> list[TakenBack]:
    """Return what a claim that finds no room tells to have taken back."""
    taken_back: list[TakenBack] = []
    request = ClaimRequest((LaneClaim(QUEUE, LEASE_MS),), 0, abandoned=abandoned, taken_back=taken_back)
    store.settle_and_claim([], [request])
    return taken_back


@pytest.mark.parametrize("how", HOWS)
def test_a_claim_tells_what_it_takes_back_and_what_becomes_of_it(store: Store, deaths: Deaths, how: How) -> None:
    job_id = put_run(store, max_attempts=2, settings=StepSettings(label="charge"))
    ends = []
    for _ in range(2):
        held = deaths.take(how)
        (taken,) = told(store, deaths.let_die(how, held))
        assert (taken.job_id, taken.run_id, taken.queue, taken.label) == (job_id, held.run_id, QUEUE, "charge")
        assert taken.why
        ends.append((taken.step, taken.attempts, taken.max_attempts, taken.status))
    assert ends == [(0, 1, 2, JobStatus.PENDING), (0, 2, 2, JobStatus.DEAD)]
    assert told(store) == []


def test_a_claim_tells_of_what_is_past_its_time(store: Store, clock: ManualClock) -> None:
    late = put_run(store, "late", limits=TimeLimits(deadline_after_ms=1_000))
    stale = put_run(store, "stale", limits=TimeLimits(expires_after_ms=1_000))
    clock.advance(2)
    ends = {each.job_id: (each.status, each.why) for each in told(store)}
    assert ends == {
        late: (JobStatus.DEAD, stored(store, late).last_error),
        stale: (JobStatus.CANCELLED, stored(store, stale).last_error),
    }
    assert "deadline" in ends[late][1]
