"""Cancelling: a waiting job ends, a running claim is flagged, a dead owner's claim ends; precedence at the store."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.storage.port.cancellation import Cancellation, CancelOutcome
from taquba_workflow_sync.storage.port.presence import Abandoned, RunningClaim
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.settlement import Ack, Action, Advance, DeadLetter, Nack, Release
from taquba_workflow_sync.storage.port.status import AttemptOutcome
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    ACTIONS,
    claim,
    claims,
    counts_of,
    now_ms,
    put_one,
    put_run,
    settle,
    status,
    stored,
    writes_nothing,
)
from .conftest import MakeStore
from .deaths import TOLD, Deaths, How

NOT_FOUND = Cancellation(CancelOutcome.NOT_FOUND)
REMOVED = Cancellation(CancelOutcome.REMOVED)


def cancel(store: Store, job_id: str, abandoned: Abandoned | None = None) -> Cancellation:
    return store.cancel(job_id, abandoned=abandoned)


def test_an_unknown_job_cannot_be_cancelled(store: Store) -> None:
    put_one(store)
    with writes_nothing(store):
        assert cancel(store, "nobody") == NOT_FOUND


@pytest.mark.parametrize("is_scheduled", [False, True])
def test_a_waiting_bare_job_is_removed_and_a_second_cancel_finds_nothing(
    store: Store, clock: ManualClock, is_scheduled: bool
) -> None:
    job_id = put_one(store, run_at_ms=now_ms(clock) + 1_000 if is_scheduled else None)
    assert cancel(store, job_id) == REMOVED
    assert store.get(job_id) is None
    assert cancel(store, job_id) == NOT_FOUND
    clock.advance(2)
    assert claims(store) == []
    assert counts_of(store) == Counts(cancelled=1)


def test_a_waiting_bare_job_that_is_kept_stays_as_cancelled(store: Store) -> None:
    job_id = put_one(store, keep_done_ms=1_000)
    assert cancel(store, job_id) == REMOVED
    assert status(store, job_id) == "cancelled"
    with writes_nothing(store):
        assert cancel(store, job_id) == NOT_FOUND


@pytest.mark.parametrize("is_scheduled", [False, True])
def test_a_waiting_run_is_cancelled_and_kept(store: Store, clock: ManualClock, is_scheduled: bool) -> None:
    job_id = put_run(store, run_at_ms=now_ms(clock) + 1_000 if is_scheduled else None)
    assert cancel(store, job_id) == REMOVED
    row = stored(store, job_id)
    assert (row.status, row.last_error, row.verdict, row.termination) == ("cancelled", None, None, 1)
    assert row.finished_ms == now_ms(clock)
    assert counts_of(store) == Counts(cancelled=1)
    assert store.history(job_id) == [], "no claim ended"
    clock.advance(2)
    assert claims(store) == []


def test_a_run_waiting_for_its_retry_is_cancelled_without_its_error(store: Store) -> None:
    job_id = put_run(store)
    settle(store, claim(store), Nack("boom", 60_000))
    assert cancel(store, job_id) == REMOVED
    assert stored(store, job_id).last_error is None


def test_a_claimed_job_is_flagged_and_its_token_told(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    assert cancel(store, job_id) == Cancellation(CancelOutcome.REQUESTED, held.token)
    row = stored(store, job_id)
    assert (row.status, row.cancel_requested, row.attempts) == ("claimed", True, 1)
    assert row.lease_until_ms == held.lease_until_ms
    assert counts_of(store) == Counts(claimed=1)
    (running,) = store.running()
    assert running == RunningClaim(job_id, held.token, True)


def test_a_second_cancel_of_a_claimed_job_changes_nothing(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    cancel(store, job_id)
    with writes_nothing(store):
        assert cancel(store, job_id) == Cancellation(CancelOutcome.REQUESTED, held.token)


def test_a_cancel_works_from_another_handle(make_store: MakeStore) -> None:
    mine, theirs = make_store(), make_store()
    job_id = put_run(mine)
    claim(mine)
    assert cancel(theirs, job_id).outcome is CancelOutcome.REQUESTED
    assert [row.cancel_requested for row in mine.running()] == [True]
    waiting = put_run(mine, "other")
    assert cancel(theirs, waiting) == REMOVED


@pytest.mark.parametrize("kept", [None, 60_000])
@pytest.mark.parametrize("end", ["ack", "ack as failed", "dead-letter", "settle cancelled"])
def test_a_finished_run_cannot_be_cancelled(store: Store, end: str, kept: int | None) -> None:
    job_id = put_run(store, keep_done_ms=kept)
    settle(store, claim(store), ACTIONS[end])
    with writes_nothing(store):
        assert cancel(store, job_id) == NOT_FOUND


@pytest.mark.parametrize("action", [Nack("boom"), Nack("boom", 1_000), Release(), Advance(b"x")])
def test_a_request_survives_what_puts_the_job_back(store: Store, clock: ManualClock, action: Action) -> None:
    job_id = put_run(store)
    held = claim(store)
    cancel(store, job_id)
    settle(store, held, action)
    assert stored(store, job_id).cancel_requested is True
    clock.advance(1)
    assert claim(store).cancel_requested is True, "the next claim starts with its token set"


def test_a_request_survives_a_restart(make_store: MakeStore) -> None:
    first = make_store()
    job_id = put_run(first)
    held = claim(first)
    cancel(first, job_id)
    first.close()
    second = make_store()
    assert stored(second, job_id).cancel_requested is True
    assert cancel(second, job_id) == Cancellation(CancelOutcome.REQUESTED, held.token)
    assert second.running() == [], "it is not this handle's"


def test_a_flagged_job_that_waits_again_is_cancelled_by_the_next_cancel(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    cancel(store, job_id)
    settle(store, held, Nack("boom"))
    assert cancel(store, job_id) == REMOVED
    assert status(store, job_id) == "cancelled"


@pytest.mark.parametrize("how", TOLD)
def test_a_cancel_ends_an_abandoned_claim_at_once(store: Store, deaths: Deaths, how: How) -> None:
    job_id = put_run(store)
    held = deaths.take(how)
    assert cancel(store, job_id, deaths.let_die(how, held)) == REMOVED
    row = stored(store, job_id)
    assert (row.status, row.termination, row.owner) == ("cancelled", 1, None)
    assert counts_of(store) == Counts(cancelled=1)
    assert [each.outcome for each in store.history(job_id)] == [AttemptOutcome.REAPED]


@pytest.mark.parametrize("how", TOLD)
def test_the_death_of_another_claims_holder_only_flags(store: Store, deaths: Deaths, how: How) -> None:
    put_one(store, "elsewhere")
    other = deaths.take(how, queue="elsewhere")
    job_id = put_run(store)
    held = claim(store)
    abandoned = deaths.let_die(how, other)
    assert abandoned
    assert cancel(store, job_id, abandoned) == Cancellation(CancelOutcome.REQUESTED, held.token)
    assert status(store, other.id) == "claimed"


@pytest.mark.parametrize("how", TOLD)
def test_a_cancel_never_ends_a_claim_whose_step_runs_in_this_process(store: Store, deaths: Deaths, how: How) -> None:
    job_id = put_run(store)
    held = deaths.take(how)
    answer = store.cancel(job_id, abandoned=deaths.let_die(how, held), never_reap={held.token})
    assert answer == Cancellation(CancelOutcome.REQUESTED, held.token)
    assert status(store, job_id) == "claimed"


def test_a_new_life_of_the_name_knows_nothing_of_the_old_ones_cancellation(store: Store) -> None:
    old = put_run(store)
    held = claim(store)
    cancel(store, old)
    settle(store, held, DeadLetter("broken"))
    store.requeue(old)
    assert stored(store, old).cancel_requested is False
    assert claim(store).cancel_requested is False


def test_a_cancel_of_a_run_frees_its_name(store: Store) -> None:
    old = put_run(store, keep_done_ms=None)
    cancel(store, old)
    assert put_run(store) != old


def test_an_ack_that_does_not_yield_ends_a_flagged_run_as_it_says(store: Store) -> None:
    # The runner's own verdict stands above a requested cancellation only where the caller says so.
    job_id = put_run(store)
    held = claim(store)
    cancel(store, job_id)
    settle(store, held, Ack(result=b"x"))
    assert stored(store, job_id).status == "done"
