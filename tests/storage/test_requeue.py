"""Putting back what ended: requeue of dead letters, retry of failed runs."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.errors import InvalidStateError, JobNotFoundError
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.storage.port.settlement import Ack, Action, Advance, DeadLetter, Nack, SettleCancelled
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    KEEP_MS,
    claim,
    claims,
    counts_of,
    job,
    put,
    put_one,
    put_run,
    rows_of,
    run,
    settle,
    stored,
    writes_nothing,
)

FAILED = Ack(Verdict.FAILED, None, "no")


def test_a_dead_job_goes_back_in_line_as_if_new(store: Store, clock: ManualClock) -> None:
    job_id = put_one(store, max_attempts=2, keep_dead_ms=1_000, headers='{"a":"1"}')
    settle(store, claim(store), Nack("boom"))
    settle(store, claim(store), DeadLetter("broken"))
    store.requeue(job_id)
    row = stored(store, job_id)
    assert (row.status, row.attempts, row.last_error, row.finished_ms) == ("pending", 0, None, None)
    assert (row.payload, row.headers, row.max_attempts) == (b"work", '{"a":"1"}', 2)
    assert counts_of(store) == Counts(pending=1)
    assert [each.outcome for each in store.history(job_id)] == ["retried", "dead"], "history is kept"
    clock.advance(3_600)
    assert store.sweep() == 0, "it is not finished any more"
    assert claim(store).attempts == 1


@pytest.mark.parametrize("action", [DeadLetter("broken"), FAILED])
def test_a_failed_run_resumes_at_the_step_that_failed_with_that_steps_input(store: Store, action: Action) -> None:
    job_id = put_run(store)
    settle(store, claim(store), Advance(b"second"))
    settle(store, claim(store), Advance(b"third" * 1_000))
    settle(store, claim(store), action)
    store.requeue(job_id, failed_run=True)
    row = stored(store, job_id)
    assert (row.verdict, row.last_error, row.result, row.termination) == (None, None, None, 1)
    held = claim(store)
    assert (held.id, held.step, held.payload, held.attempts) == (job_id, 2, b"third" * 1_000, 1)
    settle(store, held, Ack(result=b"well"))
    assert stored(store, job_id).termination == 2
    assert [each.outcome for each in store.history(job_id)][-1] == "succeeded"


@pytest.mark.parametrize("failed_run", [False, True])
def test_what_is_put_back_goes_to_the_back_of_its_priority(store: Store, failed_run: bool) -> None:
    dead = put_run(store, "dead", priority=5)
    settle(store, claim(store), DeadLetter("x"))
    others = put(store, job(priority=5), job(priority=5), job(priority=9))
    store.requeue(dead, failed_run=failed_run)
    assert [row.id for row in claims(store)] == [others[0], others[1], dead, others[2]]


def test_a_requeue_clears_the_cancel_flag(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.cancel(job_id)
    settle(store, held, DeadLetter("x"))
    store.requeue(job_id)
    assert stored(store, job_id).cancel_requested is False


@pytest.mark.parametrize("failed_run", [False, True])
def test_an_unknown_job_is_not_created_by_a_requeue(store: Store, failed_run: bool) -> None:
    put_one(store)
    with writes_nothing(store), pytest.raises(JobNotFoundError, match="nobody"):
        store.requeue("nobody", failed_run=failed_run)


def test_a_swept_dead_letter_is_not_created_again(store: Store, clock: ManualClock) -> None:
    job_id = put_one(store, keep_dead_ms=1_000)
    settle(store, claim(store), DeadLetter("x"))
    clock.advance(1)
    assert store.sweep() == 1
    with writes_nothing(store), pytest.raises(JobNotFoundError):
        store.requeue(job_id)


@pytest.mark.parametrize("failed_run", [False, True])
@pytest.mark.parametrize("state", ["pending", "scheduled", "claimed", "succeeded", "cancelled", "failed"])
def test_only_what_failed_can_be_put_back(store: Store, state: str, failed_run: bool) -> None:
    job_id = put_run(store)
    match state:
        case "scheduled":
            settle(store, claim(store), Nack("x", 1_000))
        case "claimed":
            claim(store)
        case "succeeded":
            settle(store, claim(store), Ack())
        case "cancelled":
            settle(store, claim(store), SettleCancelled())
        case "failed":
            settle(store, claim(store), FAILED)
    if state == "failed" and failed_run:
        store.requeue(job_id, failed_run=True)
        assert stored(store, job_id).status == "pending"
    else:
        with writes_nothing(store), pytest.raises(InvalidStateError):
            store.requeue(job_id, failed_run=failed_run)


@pytest.mark.parametrize("action", [DeadLetter("broken"), FAILED])
@pytest.mark.parametrize("failed_run", [False, True])
def test_an_older_life_is_not_put_back_beside_an_active_one(store: Store, action: Action, failed_run: bool) -> None:
    old = put_run(store)
    settle(store, claim(store), action)
    put_run(store, if_finished=IfFinished.RERUN)
    with writes_nothing(store), pytest.raises(InvalidStateError):
        store.requeue(old, failed_run=failed_run)


def test_an_older_life_may_be_put_back_once_the_newer_has_ended(store: Store) -> None:
    old = put_run(store)
    settle(store, claim(store), DeadLetter("x"))
    put_run(store, if_finished=IfFinished.RERUN)
    settle(store, claim(store), Ack())
    store.requeue(old)
    assert claim(store).id == old


def test_a_second_requeue_changes_nothing(store: Store) -> None:
    job_id = put_run(store)
    settle(store, claim(store), DeadLetter("x"))
    store.requeue(job_id)
    with writes_nothing(store), pytest.raises(InvalidStateError):
        store.requeue(job_id)


def test_a_retried_run_holds_its_name_again(store: Store) -> None:
    job_id = put_run(store, keep_done_ms=None)
    settle(store, claim(store), DeadLetter("x"))
    store.requeue(job_id, failed_run=True)
    assert put(store, run("r", keep_done_ms=None)) == [job_id]


def test_a_retried_run_can_be_kept_again_for_its_whole_retention(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    settle(store, claim(store), DeadLetter("x"))
    clock.advance(KEEP_MS / 1000 - 1)
    store.requeue(job_id)
    settle(store, claim(store), Ack())
    clock.advance(KEEP_MS / 1000 - 1)
    assert store.sweep() == 0
    clock.advance(1)
    assert store.sweep() >= 1  # what was noted of it goes, too
    assert rows_of(store, "steps") == []
