"""What each end of a claim leaves behind: status, step, attempts, place in line, error, history, counters."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.errors import CancelRequestedError
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Nack,
    Release,
    SettleCancelled,
)
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus, Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    ACTIONS,
    KEEP_MS,
    LANE,
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
    refusal,
    rows_of,
    run,
    settle,
    status,
    stored,
    subscribe,
    writes_nothing,
)


def outcomes(store: Store, job_id: str) -> list[tuple[int, int, str, str | None]]:
    return [(each.step, each.attempt, each.outcome, each.error) for each in store.history(job_id)]


# Ack


def test_ack_ends_a_run_as_done_with_its_result(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    held = claim(store)
    clock.advance(3)
    settle(store, held, Ack(result=b"the result"))
    row = stored(store, job_id)
    assert (row.status, row.verdict, row.result, row.last_error) == ("done", "succeeded", b"the result", None)
    assert (row.finished_ms, row.termination) == (now_ms(clock), 1)
    assert (row.owner, row.lease_until_ms) == (None, None)
    assert counts_of(store) == Counts(done=1)
    (attempt,) = store.history(job_id)
    assert attempt[1:] == (0, 1, held.claimed_ms, now_ms(clock), AttemptOutcome.SUCCEEDED, None)
    assert (type(row.status), type(row.verdict), type(attempt.outcome)) == (JobStatus, Verdict, AttemptOutcome)


def test_ack_with_a_verdict_of_failure_keeps_reason_and_payload(store: Store) -> None:
    job_id = put_run(store, payload=b"the input")
    settle(store, claim(store), Ack(Verdict.FAILED, None, "no such customer"))
    row = stored(store, job_id)
    assert (row.status, row.verdict, row.last_error) == ("done", "failed", "no such customer")
    assert (row.payload, row.result) == (b"the input", None)
    assert counts_of(store) == Counts(done=1), "a verdict is no dead letter"
    assert outcomes(store, job_id) == [(0, 1, "failed", "no such customer")]


def test_ack_of_a_bare_job_that_keeps_nothing_leaves_no_row(store: Store) -> None:
    job_id = put_one(store)
    settle(store, claim(store), Ack(result=b"x"))
    assert store.get(job_id) is None
    assert store.history(job_id) == []
    assert counts_of(store) == Counts(done=1)


def test_ack_of_a_bare_job_that_is_kept_leaves_its_row(store: Store) -> None:
    job_id = put_one(store, keep_done_ms=1_000)
    settle(store, claim(store), Ack(result=b"x"))
    assert status(store, job_id) == "done"
    assert stored(store, job_id).result == b"x"
    assert stored(store, job_id).termination == 0, "only runs terminate"


# Advance


def test_advance_puts_the_same_job_back_one_step_on(store: Store) -> None:
    job_id = put_run(store, headers='{"a":"1"}', max_attempts=2, priority=3)
    settle(store, claim(store), Nack("boom"))
    settle(store, claim(store), Advance(b"second input"))
    row = stored(store, job_id)
    assert (row.status, row.step, row.attempts, row.payload) == ("pending", 1, 0, b"second input")
    assert (row.headers, row.max_attempts, row.priority, row.last_error) == ('{"a":"1"}', 2, 3, None)
    assert (row.owner, row.lease_until_ms, row.finished_ms, row.termination) == (None, None, None, 0)
    assert outcomes(store, job_id) == [(0, 1, "retried", "boom"), (0, 2, "continued", None)]
    assert counts_of(store) == Counts(pending=1)
    held = claim(store)
    assert (held.step, held.attempts, held.payload) == (1, 1, b"second input")


@pytest.mark.parametrize("many", [1, 2, 3, 64, 65, 130])
@pytest.mark.parametrize("yields", [False, True])
def test_any_number_of_advances_in_one_turn_do_the_same(store: Store, many: int, yields: bool) -> None:
    ids = put(store, *(run(f"r{number}") for number in range(many)))
    held = claims(store)
    settlements = [ending(row, Advance(row.id.encode()), yields_to_cancel=yields) for row in held]
    assert store.settle_and_claim(settlements, [])[0] == [None] * many
    for job_id in ids:
        row = stored(store, job_id)
        assert (row.status, row.step, row.attempts, row.payload) == ("pending", 1, 0, job_id.encode())
        assert outcomes(store, job_id) == [(0, 1, "continued", None)]
    assert counts_of(store) == Counts(pending=many)
    assert [row.id for row in claims(store)] == ids, "in the order they were settled"


@pytest.mark.parametrize("many", [1, 5])
def test_advance_forgets_error_and_due_time_of_the_attempts_before(store: Store, clock: ManualClock, many: int) -> None:
    ids = put(store, *(run(f"r{number}") for number in range(many)))
    store.settle_and_claim([ending(row, Nack("boom", 1_000)) for row in claims(store)], [])
    clock.advance(1)
    store.settle_and_claim([ending(row, Advance(b"x"), yields_to_cancel=True) for row in claims(store)], [])
    for job_id in ids:
        row = stored(store, job_id)
        assert (row.last_error, row.run_at_ms, row.attempts, row.step) == (None, None, 0, 1)
        assert [each[:2] for each in outcomes(store, job_id)] == [(0, 1), (0, 2)]


def test_advance_with_headers_replaces_them(store: Store) -> None:
    job_id = put_run(store, headers='{"a":"1"}')
    settle(store, claim(store), Advance(b"x", headers='{"b":"2"}'))
    assert stored(store, job_id).headers == '{"b":"2"}'
    settle(store, claim(store), Advance(b"x", headers=""))
    assert stored(store, job_id).headers == ""


def test_advance_with_a_delay_schedules_by_the_stores_clock(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    held = claim(store)
    clock.advance(1)
    settle(store, held, Advance(b"x", delay_ms=2_500))
    row = stored(store, job_id)
    assert (row.status, row.run_at_ms) == ("scheduled", now_ms(clock) + 2_500)
    clock.advance(2.499)
    assert claims(store) == []
    clock.advance(0.001)
    assert claim(store).step == 1


@pytest.mark.parametrize("delay", [None, 0, -5])
def test_advance_without_a_delay_waits_for_nothing(store: Store, delay: int | None) -> None:
    job_id = put_run(store)
    settle(store, claim(store), Advance(b"x", delay_ms=delay))
    assert status(store, job_id) == "pending"


@pytest.mark.parametrize("together", [False, True], ids=["alone", "in bulk"])
def test_advance_goes_to_the_back_of_its_priority(store: Store, together: bool) -> None:
    first, second, third = put(store, run("a"), run("b"), run("c"))
    held = claims(store, 2)
    settlements = [ending(row, Advance(b"x"), yields_to_cancel=True) for row in held]
    for batch in [settlements] if together else [[each] for each in settlements]:
        store.settle_and_claim(batch, [])
    assert [row.id for row in claims(store)] == [third, first, second]


@pytest.mark.parametrize("together", [False, True], ids=["alone", "in bulk"])
def test_advance_that_keeps_its_place_stays_ahead(store: Store, together: bool) -> None:
    first, second, third = put(store, run("a"), run("b"), run("c"))
    held = claims(store, 2)
    settlements = [ending(row, Advance(b"x", keeps_place=True), yields_to_cancel=True) for row in held]
    for batch in [settlements] if together else [[each] for each in settlements]:
        store.settle_and_claim(batch, [])
    assert [row.id for row in claims(store)] == [first, second, third]


def test_an_advanced_job_stays_in_its_priority(store: Store) -> None:
    urgent, _ = put(store, run("a", priority=1), run("b"))
    settle(store, claim(store), Advance(b"x"))
    assert claim(store).id == urgent


@pytest.mark.parametrize("together", [False, True], ids=["alone", "in bulk"])
def test_advance_that_yields_is_refused_once_a_cancel_was_requested(store: Store, together: bool) -> None:
    ids = put(store, *(run(f"r{number}") for number in range(4 if together else 1)))
    held = claims(store)
    for job_id in ids:
        store.cancel(job_id)
    with writes_nothing(store):
        refusals, _ = store.settle_and_claim([ending(row, Advance(b"x"), yields_to_cancel=True) for row in held], [])
    assert all(isinstance(error, CancelRequestedError) for error in refusals)
    assert all(refusal(store, row, SettleCancelled()) is None for row in held), "the claims are still held"


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
def test_every_action_that_yields_is_refused_once_a_cancel_was_requested(store: Store, action: Action) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.cancel(job_id)
    with writes_nothing(store):
        assert isinstance(refusal(store, held, action, yields_to_cancel=True), CancelRequestedError)
    assert refusal(store, held, action) is None, "what does not yield goes through"


# Nack


def test_nack_with_backoff_schedules_the_next_attempt(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    held = claim(store)
    clock.advance(1)
    settle(store, held, Nack("boom", 4_000))
    row = stored(store, job_id)
    assert (row.status, row.run_at_ms, row.last_error) == ("scheduled", now_ms(clock) + 4_000, "boom")
    assert (row.step, row.attempts, row.payload) == (0, 1, b"input")
    assert counts_of(store) == Counts(scheduled=1)
    assert outcomes(store, job_id) == [(0, 1, "retried", "boom")]
    clock.advance(4)
    assert claim(store).attempts == 2


@pytest.mark.parametrize("delay", [None, 0])
def test_nack_without_backoff_is_pending_at_once(store: Store, delay: int | None) -> None:
    job_id = put_one(store)
    settle(store, claim(store), Nack("boom", delay))
    assert status(store, job_id) == "pending"
    assert stored(store, job_id).run_at_ms is None


@pytest.mark.parametrize("delay", [None, 1_000])
def test_nack_keeps_the_place_in_line(store: Store, clock: ManualClock, delay: int | None) -> None:
    ids = put(store, *(job() for _ in range(3)))
    settle(store, claim(store), Nack("boom", delay))
    clock.advance(1)
    assert [row.id for row in claims(store)] == ids


# Dead letter, cancelled, release


def test_dead_letter_keeps_error_and_payload(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    settle(store, claim(store), DeadLetter("broken"))
    row = stored(store, job_id)
    assert (row.status, row.last_error, row.payload, row.finished_ms) == ("dead", "broken", b"input", now_ms(clock))
    assert (row.verdict, row.termination) == ("failed", 1)
    assert counts_of(store) == Counts(dead=1)
    assert outcomes(store, job_id) == [(0, 1, "dead", "broken")]


def test_dead_letter_of_a_bare_job_stays_for_operators(store: Store) -> None:
    job_id = put_one(store)
    settle(store, claim(store), DeadLetter("broken"))
    assert status(store, job_id) == "dead"
    assert stored(store, job_id).verdict is None


@pytest.mark.parametrize("reason", [None, "changed my mind"])
def test_settle_cancelled_keeps_the_reason_if_there_is_one(store: Store, reason: str | None) -> None:
    job_id = put_run(store)
    settle(store, claim(store), SettleCancelled(reason))
    row = stored(store, job_id)
    assert (row.status, row.last_error, row.verdict, row.result) == ("cancelled", reason, None, None)
    assert row.termination == 1
    assert counts_of(store) == Counts(cancelled=1)
    assert outcomes(store, job_id) == [(0, 1, "cancelled", reason)]


def test_settle_cancelled_forgets_the_error_of_an_earlier_attempt(store: Store) -> None:
    job_id = put_run(store)
    settle(store, claim(store), Nack("boom"))
    settle(store, claim(store), SettleCancelled())
    assert stored(store, job_id).last_error is None


def test_release_charges_no_attempt_and_keeps_the_place(store: Store) -> None:
    ids = put(store, run("a", max_attempts=1), run("b"))
    held = claim(store)
    settle(store, held, Release())
    row = stored(store, ids[0])
    assert (row.status, row.attempts, row.step, row.last_error) == ("pending", 0, 0, None)
    assert store.history(ids[0]) == []
    assert counts_of(store) == Counts(pending=2)
    again = claims(store)
    assert [row.id for row in again] == ids
    assert again[0].attempts == 1
    settle(store, again[0], Ack())
    assert outcomes(store, ids[0]) == [(0, 1, "succeeded", None)]


def test_release_keeps_what_the_attempt_before_it_left(store: Store) -> None:
    job_id = put_run(store)
    settle(store, claim(store), Nack("boom"))
    settle(store, claim(store), Release())
    assert (stored(store, job_id).attempts, stored(store, job_id).last_error) == (1, "boom")
    settle(store, claim(store), Ack())
    assert outcomes(store, job_id) == [(0, 1, "retried", "boom"), (0, 2, "succeeded", None)]


_LONG = "x" * 100_000


@pytest.mark.parametrize(
    "action",
    [Ack(Verdict.FAILED, None, _LONG), Nack(_LONG), DeadLetter(_LONG), SettleCancelled(_LONG)],
    ids=["ack", "nack", "dead", "cancelled"],
)
def test_a_very_long_error_is_cut_with_a_note(store: Store, action: Action) -> None:
    job_id = put_run(store)
    settle(store, claim(store), action)
    for kept in (stored(store, job_id).last_error, store.history(job_id)[0].error):
        assert kept is not None
        assert len(kept) < 20_000
        assert kept.startswith("xxx") and "cut" in kept[-60:]


def test_an_advance_into_the_future_and_back_keeps_one_row(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, keep_done_ms=KEEP_MS)
    for step in range(5):
        held = claim(store)
        assert held.step == step
        settle(store, held, Advance(str(step).encode(), delay_ms=1_000))
        clock.advance(1)
    settle(store, claim(store), Ack(result=b"end"))
    assert stored(store, job_id).step == 5
    assert [each.step for each in store.history(job_id)] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("is_told", [False, True], ids=["nobody is told", "somebody is told"])
@pytest.mark.parametrize("keep_ms", [None, 0, KEEP_MS])
def test_runs_that_succeed_together_end_as_each_would_alone(
    store: Store, clock: ManualClock, is_told: bool, keep_ms: int | None
) -> None:
    if is_told:
        subscribe(store)
    names = put(store, *(run(f"r{number}", keep_done_ms=keep_ms) for number in range(4)))
    held = claims(store)
    *together, alone = held
    settlements = [ending(row, Ack(result=b"result"), yields_to_cancel=True) for row in together]
    assert store.settle_and_claim(settlements, [])[0] == [None] * 3
    settle(store, alone, Ack(result=b"result"))

    shown = [stored(store, name)._replace(id="", run_id="", enqueued_ms=0) for name in names]
    assert shown == [shown[-1]] * 4
    histories = [[each._replace(ordinal=0) for each in store.history(name)] for name in names]
    assert histories == [histories[-1]] * 4
    assert counts_of(store, LANE).pending == (4 if is_told else 0)
    assert sorted(row.id for row in rows_of(store, LANE)) == (sorted(f"{name}-1" for name in names) if is_told else [])
    clock.advance(max(keep_ms or 0, 60_000) / 1000 - 0.001)
    assert store.sweep() == 0
    clock.advance(0.001)
    assert store.sweep() == 4
    check_counters(store)


def test_bare_jobs_that_are_done_together_are_removed_like_one(store: Store) -> None:
    names = put(store, *(job() for _ in range(3)))
    settlements = [ending(row, Ack(result=b"result"), yields_to_cancel=True) for row in claims(store)]
    assert store.settle_and_claim(settlements, [])[0] == [None] * 3
    assert [status(store, name) for name in names] == [None] * 3
    check_counters(store)


def test_runs_that_succeed_together_leave_out_one_that_was_asked_to_cancel_and_one_that_is_large(store: Store) -> None:
    names = put(store, run("plain"), run("cancelled"), run("large", b"x" * 3_000))
    held = claims(store)
    store.cancel(names[1])
    answers, _ = store.settle_and_claim([ending(row, Ack(result=b"r"), yields_to_cancel=True) for row in held], [])
    assert [None if each is None else type(each).__name__ for each in answers] == [None, "CancelRequestedError", None]
    assert [status(store, name) for name in names] == ["done", "claimed", "done"]
    assert [stored(store, name).result for name in (names[0], names[2])] == [b"r", b"r"]
    assert stored(store, names[2]).payload == b"x" * 3_000
