"""Time limits at the port: what waits ends in a claim's transaction, what runs is asked to stop and ends as it must."""

from __future__ import annotations

from typing import Any

import pytest

from taquba_workflow_sync.clock import from_ms
from taquba_workflow_sync.errors import CancelRequestedError, TaqubaError
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.presence import RunningClaim
from taquba_workflow_sync.storage.port.reads import DueIn, Ready
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
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus, Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.timing import (
    Ends,
    Late,
    LimitPassedError,
    Overrun,
    TimeLimits,
    after_retry,
    ends_of,
    late_at,
)
from taquba_workflow_sync.storage.relational import claims_seen
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    ACTIONS,
    QUEUE,
    claim,
    claims,
    holding,
    now_ms,
    put_run,
    refusal,
    run,
    settle,
    status,
    stored,
    subscribe,
    writes_nothing,
)
from .conftest import MakeStore
from .deaths import Deaths

SPAN = TimeLimits(deadline_after_ms=10_000)
EXPIRES = TimeLimits(expires_after_ms=10_000)


def deadline_error(clock: ManualClock, in_ms: int = 0) -> str:
    """What is said of a deadline so far from now."""
    return Late(Overrun.DEADLINE, now_ms(clock) + in_ms).why


def late_claims(store: Store) -> list[ClaimedRow]:
    """A claim for which there is no room: it ends what is late all the same."""
    return claims(store, 0)


# The rules


def test_a_span_counts_from_the_submit_or_from_the_later_run_at() -> None:
    limits = TimeLimits(deadline_after_ms=10, expires_after_ms=3)
    assert ends_of(limits, 100, None) == ends_of(limits, 100, 50) == Ends(110, 103)
    assert ends_of(limits, 100, 200) == Ends(210, 203)
    assert ends_of(TimeLimits(deadline_ms=7), 100, 200) == Ends(7, None)


@pytest.mark.parametrize(
    ("ends", "late"),
    [
        (Ends(None, None), None),
        (Ends(11, 11), None),
        (Ends(10, None), Late(Overrun.DEADLINE, 10)),
        (Ends(None, 10), Late(Overrun.EXPIRY, 10)),
        (Ends(10, 9), Late(Overrun.EXPIRY, 9)),
        (Ends(9, 10), Late(Overrun.DEADLINE, 9)),
        (Ends(9, 9), Late(Overrun.DEADLINE, 9)),
        (Ends(11, 10), Late(Overrun.EXPIRY, 10)),
    ],
)
def test_of_two_limits_the_one_decides_that_passed_first(ends: Ends, late: Late | None) -> None:
    assert late_at(10, ends) == late


def test_a_retry_begins_a_span_anew_and_drops_a_date() -> None:
    assert after_retry(100, Ends(50, 20), 10) == Ends(110, None)
    assert after_retry(100, Ends(50, 20), None) == Ends(None, None)


# What waits


@pytest.mark.parametrize("run_at", [None, 60_000])
def test_a_waiting_run_past_its_deadline_ends_as_dead_in_the_next_claim(
    store: Store, clock: ManualClock, run_at: int | None
) -> None:
    at = now_ms(clock) + 10_000
    run_at_ms = None if run_at is None else now_ms(clock) + run_at
    job_id = put_run(store, limits=TimeLimits(deadline_ms=at), run_at_ms=run_at_ms)
    clock.advance(9.999)
    assert late_claims(store) == [] and stored(store, job_id).finished_ms is None
    clock.advance(0.001)
    assert late_claims(store) == []
    row = stored(store, job_id)
    assert (row.status, row.verdict, row.finished_ms) == (JobStatus.DEAD, Verdict.FAILED, at)
    assert row.last_error == f"RunDeadlineExceeded: the run had not ended by its deadline, {from_ms(at).isoformat()}"
    assert store.history(job_id) == []


def test_a_run_that_waits_for_its_backoff_ends_at_its_deadline_too(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, limits=SPAN)
    settle(store, claim(store), Nack("boom", 60_000), yields_to_cancel=True)
    clock.advance(10)
    late_claims(store)
    assert status(store, job_id) is JobStatus.DEAD


def test_at_most_five_hundred_end_in_one_transaction_and_none_that_is_late_is_worked_on(
    store: Store, clock: ManualClock
) -> None:
    store.insert([run(f"r{number}", limits=SPAN) for number in range(502)])
    clock.advance(10)
    held = claims(store, 10)
    assert [row.late for row in held] == [Late(Overrun.DEADLINE, now_ms(clock))] * 2
    assert store.counts()[QUEUE].dead == 500


def test_late_runs_end_before_what_is_due_is_promoted(store: Store, clock: ManualClock) -> None:
    at = now_ms(clock) + 5_000
    late = put_run(store, "late", run_at_ms=at, limits=TimeLimits(deadline_ms=at))
    due = put_run(store, "due", run_at_ms=at)
    clock.advance(5)
    assert [row.id for row in claims(store)] == [due]
    assert status(store, late) is JobStatus.DEAD


def test_the_hook_of_a_run_that_ended_at_its_deadline_is_told(store: Store, clock: ManualClock) -> None:
    subscribe(store)
    job_id = put_run(store, limits=SPAN)
    clock.advance(10)
    late_claims(store)
    (note,) = claims(store, queue=f"{QUEUE}.terminal")
    assert note.id == f"{job_id}-1"


def test_a_run_that_has_not_started_in_time_is_cancelled(store: Store, clock: ManualClock) -> None:
    at = now_ms(clock) + 10_000
    job_id = put_run(store, limits=EXPIRES)
    clock.advance(10)
    assert claims(store) == []
    row = stored(store, job_id)
    assert (row.status, row.verdict) == (JobStatus.CANCELLED, None)
    assert row.last_error == f"RunExpired: the run had not started by {from_ms(at).isoformat()}"


def test_expiry_counts_from_a_later_run_at(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, run_at_ms=now_ms(clock) + 5_000, limits=EXPIRES)
    clock.advance(14.999)
    assert late_claims(store) == [] and status(store, job_id) is JobStatus.PENDING
    clock.advance(0.001)
    late_claims(store)
    assert status(store, job_id) is JobStatus.CANCELLED


@pytest.mark.parametrize("name", ["nack", "put back", "advance"])
def test_a_run_that_has_started_expires_no_more(store: Store, clock: ManualClock, name: str) -> None:
    job_id = put_run(store, limits=EXPIRES)
    settle(store, claim(store), ACTIONS[name])
    clock.advance(20)
    (again,) = claims(store)
    assert (again.id, again.late) == (job_id, None)


def test_nor_does_one_that_runs(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, limits=EXPIRES)
    held = claim(store)
    clock.advance(20)
    late_claims(store)
    assert (stored(store, job_id).cancel_requested, stored(store, job_id).is_late) == (False, False)
    settle(store, held, Ack(), yields_to_cancel=True)
    assert status(store, job_id) is JobStatus.DONE


def test_nor_does_one_whose_claim_went_on(store: Store, clock: ManualClock) -> None:
    put_run(store, limits=EXPIRES)
    held = claim(store)
    settlement = holding(store, held)
    assert store.settle_and_claim([settlement], [])[0] == [Ongoing.HELD]
    (running,) = store.running()
    settle(store, held._replace(token=running.token), Release())
    clock.advance(20)
    (again,) = claims(store)
    assert (again.step, again.late) == (1, None)


def test_nor_does_one_whose_claim_was_taken_back(store: Store, clock: ManualClock, deaths: Deaths) -> None:
    put_run(store, limits=EXPIRES)
    evidence = deaths.let_die("own", deaths.take("own"))
    clock.advance(5)
    claims(store, 0, abandoned=evidence)
    clock.advance(20)
    assert claim(store).late is None


def test_a_released_claim_has_not_started(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, limits=EXPIRES)
    settle(store, claim(store), Release())
    clock.advance(10)
    assert claims(store) == []
    assert status(store, job_id) is JobStatus.CANCELLED


def test_of_both_limits_the_first_ends_the_run(store: Store, clock: ManualClock) -> None:
    first = put_run(store, "expires", limits=TimeLimits(deadline_after_ms=9_000, expires_after_ms=8_000))
    second = put_run(store, "fails", limits=TimeLimits(deadline_after_ms=8_000, expires_after_ms=9_000))
    clock.advance(60)
    late_claims(store)
    assert (status(store, first), status(store, second)) == (JobStatus.CANCELLED, JobStatus.DEAD)


def test_a_run_without_limits_never_ends_by_time(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    put_run(store, "other", limits=SPAN)
    clock.advance(1_000_000)
    (held,) = claims(store)
    assert (held.id, held.deadline, held.late, held.step_end) == (job_id, None, None, None)


# What runs


def test_a_claimed_run_past_its_deadline_is_asked_to_stop(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, limits=SPAN)
    held = claim(store)
    assert held.deadline is not None and store.remaining_ms(held.deadline) == 10_000
    clock.advance(11)
    assert store.remaining_ms(held.deadline) == -1_000
    assert (stored(store, job_id).is_late, stored(store, job_id).cancel_requested) == (True, False)
    late_claims(store)
    assert stored(store, job_id).cancel_requested
    assert store.running() == [RunningClaim(job_id, held.token, True, True)]
    assert store.renew([held.token], 1_000)[1] == {held.token}, "it keeps its claim"
    with writes_nothing(store):
        late_claims(store)


def test_a_claim_that_ends_while_it_is_looked_at_was_not_cancelled(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_run(store, limits=SPAN)
    held = claim(store)
    clock.advance(11)
    late_claims(store)
    look = claims_seen.is_stopped_for_deadline

    def ends_first(connection: Any, seq: int) -> bool:
        end = Settlement(held.id, held.token, DeadLetter("late"), True, ignores_deadline=True)
        store.settle_and_claim([end], [])
        return look(connection, seq)

    monkeypatch.setattr(claims_seen, "is_stopped_for_deadline", ends_first)
    assert [each for each in store.running() if not each.is_late] == []


@pytest.mark.parametrize("is_asked", [False, True])
@pytest.mark.parametrize("name", sorted(set(ACTIONS) - {"settle cancelled", "release"}))
def test_whatever_a_late_step_comes_to_yields_to_the_deadline(
    store: Store, clock: ManualClock, name: str, is_asked: bool
) -> None:
    put_run(store, limits=SPAN)
    held = claim(store)
    clock.advance(10)
    if is_asked:
        late_claims(store)
    with writes_nothing(store):
        error = refusal(store, held, ACTIONS[name], yields_to_cancel=True)
    assert isinstance(error, LimitPassedError)
    assert (error.overrun, str(error)) == (Overrun.DEADLINE, deadline_error(clock))
    answers, _ = store.settle_and_claim(
        [Settlement(held.id, held.token, DeadLetter(str(error)), True, ignores_deadline=True)], []
    )
    assert answers == [None]
    row = stored(store, held.id)
    assert (row.status, row.verdict, row.last_error) == (JobStatus.DEAD, Verdict.FAILED, deadline_error(clock))


def test_a_hold_yields_to_the_deadline_as_well(store: Store, clock: ManualClock) -> None:
    put_run(store, limits=SPAN)
    held = claim(store)
    clock.advance(10)
    (answer,), _ = store.settle_and_claim([holding(store, held)], [])
    assert isinstance(answer, LimitPassedError)


def test_a_settlement_is_judged_at_its_commit(store: Store, clock: ManualClock) -> None:
    put_run(store, limits=SPAN)
    held = claim(store)
    clock.advance(9.999)
    assert refusal(store, held, Advance(b"next"), yields_to_cancel=True) is None
    held = claim(store)
    clock.advance(0.001)
    assert isinstance(refusal(store, held, Ack(), yields_to_cancel=True), LimitPassedError)


def test_the_runners_own_cancel_goes_before_the_deadline(store: Store, clock: ManualClock) -> None:
    put_run(store, limits=SPAN)
    held = claim(store)
    clock.advance(10)
    late_claims(store)
    settle(store, held, SettleCancelled("enough"))
    assert (stored(store, held.id).status, stored(store, held.id).last_error) == (JobStatus.CANCELLED, "enough")


@pytest.mark.parametrize("order", ["cancel, deadline", "deadline, cancel", "deadline, asked, cancel"])
def test_a_requested_cancel_goes_before_the_deadline_whichever_came_first(
    store: Store, clock: ManualClock, order: str
) -> None:
    put_run(store, limits=SPAN)
    held = claim(store)
    if order.startswith("cancel"):
        store.cancel(held.id)
    clock.advance(10)
    if order.endswith("asked, cancel"):
        late_claims(store)
    if order.endswith("cancel"):
        store.cancel(held.id)
    late_claims(store)
    assert store.running() == [RunningClaim(held.id, held.token, True, False)]
    assert isinstance(refusal(store, held, Ack(), yields_to_cancel=True), CancelRequestedError)
    late = Settlement(held.id, held.token, DeadLetter("late"), True, ignores_deadline=True)
    assert isinstance(store.settle_and_claim([late], [])[0][0], CancelRequestedError)
    settle(store, held, SettleCancelled())
    assert status(store, held.id) is JobStatus.CANCELLED


def test_a_late_claim_that_is_released_ends_in_the_next_claim(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, limits=SPAN)
    held = claim(store)
    clock.advance(10)
    late_claims(store)
    settle(store, held, Release())
    assert claims(store) == []
    row = stored(store, job_id)
    assert (row.status, row.last_error) == (JobStatus.DEAD, deadline_error(clock))


def test_a_cancelled_and_late_claim_that_is_released_is_cancelled(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, limits=SPAN)
    held = claim(store)
    store.cancel(job_id)
    clock.advance(10)
    settle(store, held, Release())
    assert claims(store) == []
    assert status(store, job_id) is JobStatus.CANCELLED


@pytest.mark.parametrize("is_asked", [False, True])
def test_a_late_claim_that_is_taken_back_ends_as_dead(
    store: Store, clock: ManualClock, deaths: Deaths, is_asked: bool
) -> None:
    job_id = put_run(store, limits=SPAN)
    held = deaths.take("own")
    clock.advance(10)
    if is_asked:
        late_claims(store)
    claims(store, 0, abandoned=deaths.let_die("own", held))
    row = stored(store, job_id)
    assert (row.status, row.last_error) == (JobStatus.DEAD, deadline_error(clock))
    assert [each.outcome for each in store.history(job_id)] == [AttemptOutcome.REAPED]


def test_a_late_claim_that_is_cancelled_and_taken_back_is_cancelled(
    store: Store, clock: ManualClock, deaths: Deaths
) -> None:
    job_id = put_run(store, limits=SPAN)
    held = deaths.take("own")
    clock.advance(10)
    late_claims(store)
    store.cancel(job_id)
    claims(store, 0, abandoned=deaths.let_die("own", held))
    assert status(store, job_id) is JobStatus.CANCELLED


# After the end


def test_a_retry_renews_a_span(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, limits=SPAN)
    clock.advance(10)
    late_claims(store)
    clock.advance(5)
    store.requeue(job_id, failed_run=True)
    held = claim(store)
    assert held.deadline is not None and store.remaining_ms(held.deadline) == 10_000
    assert not stored(store, job_id).cancel_requested
    clock.advance(10)
    assert isinstance(refusal(store, held, Ack(), yields_to_cancel=True), LimitPassedError)


def test_a_retry_drops_a_date(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, limits=TimeLimits(deadline_ms=now_ms(clock) + 10_000, expires_after_ms=20_000))
    clock.advance(10)
    late_claims(store)
    store.requeue(job_id)
    clock.advance(1_000)
    held = claim(store)
    assert (held.id, held.deadline, held.late) == (job_id, None, None)
    assert refusal(store, held, Ack(), yields_to_cancel=True) is None


def test_an_ended_run_has_no_end_to_look_after(store: Store, clock: ManualClock) -> None:
    put_run(store, limits=SPAN)
    settle(store, claim(store), Ack())
    clock.advance(1_000)
    assert store.next_work(QUEUE) is None
    assert not store.has_late(QUEUE)


# When to look


def test_the_next_end_is_a_time_at_which_there_is_work(store: Store, clock: ManualClock) -> None:
    put_run(store, run_at_ms=now_ms(clock) + 60_000, limits=TimeLimits(deadline_ms=now_ms(clock) + 5_000))
    assert (store.next_work(QUEUE), store.has_late(QUEUE)) == (DueIn(5_000), False)
    assert store.next_work(QUEUE, retries_only=True) is None
    clock.advance(5)
    assert (store.next_work(QUEUE), store.has_late(QUEUE)) == (Ready(), True)
    assert not store.has_late("another")
    late_claims(store)
    assert (store.next_work(QUEUE), store.has_late(QUEUE)) == (None, False)


def test_so_is_the_deadline_of_what_runs_until_it_was_asked_to_stop(store: Store, clock: ManualClock) -> None:
    put_run(store, limits=SPAN)
    claim(store)
    assert store.next_work(QUEUE) == DueIn(10_000)
    clock.advance(10)
    assert store.next_work(QUEUE) == Ready()
    late_claims(store)
    assert store.next_work(QUEUE) is None


def test_limits_are_there_for_every_handle(make_store: MakeStore, clock: ManualClock) -> None:
    mine, other = make_store(), make_store()
    job_id = put_run(mine, limits=SPAN)
    clock.advance(10)
    assert other.has_late(QUEUE)
    late_claims(other)
    assert status(mine, job_id) is JobStatus.DEAD


# The time of one step


def step_of(store: Store, timeout_ms: int = 10_000) -> ClaimedRow:
    put_run(store, settings=StepSettings(step_timeout_ms=timeout_ms))
    return claim(store)


def ending(held: ClaimedRow, action: Action) -> Settlement:
    return Settlement(held.id, held.token, action, not isinstance(action, SettleCancelled), step_end=held.step_end)


def answer(store: Store, settlement: Settlement) -> TaqubaError | Ongoing | None:
    ((one,), _) = store.settle_and_claim([settlement], [])
    return one


def test_the_time_of_a_step_counts_from_its_claim(store: Store, clock: ManualClock) -> None:
    put_run(store, settings=StepSettings(step_timeout_ms=10_000))
    clock.advance(60)
    held = claim(store)
    assert held.step_end is not None and store.remaining_ms(held.step_end) == 10_000


@pytest.mark.parametrize("name", sorted(set(ACTIONS) - {"settle cancelled", "release"}))
def test_whatever_a_step_past_its_time_comes_to_yields_to_that(store: Store, clock: ManualClock, name: str) -> None:
    held = step_of(store)
    clock.advance(10)
    with writes_nothing(store):
        error = answer(store, ending(held, ACTIONS[name]))
    assert isinstance(error, LimitPassedError) and error.overrun is Overrun.STEP_TIMEOUT
    assert answer(store, replace_end(ending(held, Nack("too slow")))) is None


def replace_end(settlement: Settlement) -> Settlement:
    return settlement._replace(step_end=None)


def test_a_step_within_its_time_is_settled_as_it_says(store: Store, clock: ManualClock) -> None:
    held = step_of(store)
    clock.advance(9.999)
    assert answer(store, ending(held, Ack())) is None


def test_the_order_at_a_settlement_is_cancel_deadline_timeout(store: Store, clock: ManualClock) -> None:
    given = {"limits": SPAN, "settings": StepSettings(step_timeout_ms=10_000)}
    for name, then in (("a", "deadline"), ("b", "cancel"), ("c", "own cancel")):
        put_run(store, name, **given)
        held = claim(store)
        clock.advance(10)
        if then == "deadline":
            error = answer(store, ending(held, Ack()))
            assert isinstance(error, LimitPassedError) and error.overrun is Overrun.DEADLINE
            settle(store, held, SettleCancelled())
        elif then == "cancel":
            store.cancel(held.id)
            assert isinstance(answer(store, ending(held, Ack())), CancelRequestedError)
            settle(store, held, SettleCancelled())
        else:
            assert answer(store, ending(held, SettleCancelled("mine"))) is None


def test_a_row_shows_that_its_step_runs_for_too_long(make_store: MakeStore, clock: ManualClock) -> None:
    mine, other = make_store(), make_store()
    held = step_of(mine)
    clock.advance(9.999)
    assert not stored(other, held.id).is_overdue
    clock.advance(0.001)
    assert stored(other, held.id).is_overdue
    settle(mine, held, Nack("slow"))
    assert not stored(other, held.id).is_overdue


def test_a_put_back_is_waited_for_as_a_retry_only_where_it_says_so(store: Store) -> None:
    put_run(store)
    settle(store, claim(store), Nack("once", 0))
    settle(store, claim(store), PutBack(5_000, "not now"))
    assert (store.next_work(QUEUE), store.next_work(QUEUE, retries_only=True)) == (DueIn(5_000), None)
    put_run(store, "other")
    settle(store, claim(store), PutBack(7_000, "refused", is_retry=True))
    assert store.next_work(QUEUE, retries_only=True) == DueIn(7_000)
    put_run(store, "third")
    settle(store, claim(store), Nack("boom", 3_000))
    assert store.next_work(QUEUE, retries_only=True) == DueIn(3_000)


def test_a_delay_after_a_retry_is_no_retry(store: Store, clock: ManualClock) -> None:
    put_run(store)
    settle(store, claim(store), Nack("boom", 1_000))
    clock.advance(1)
    settle(store, claim(store), Advance(b"next", delay_ms=5_000))
    assert store.next_work(QUEUE, retries_only=True) is None
