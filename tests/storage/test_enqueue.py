"""- -> pending / scheduled: order, limits frozen on the row, ids and dedup keys, batches that are all or nothing."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.errors import DuplicateJobIdError, TaqubaError
from taquba_workflow_sync.storage.port.job import Inserted
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.settlement import Ack, DeadLetter, Nack
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    QUEUE,
    claim,
    claims,
    counts_of,
    dump,
    job,
    now_ms,
    put,
    put_one,
    refusal,
    run,
    settle,
    status,
    stored,
    writes_nothing,
)


def test_a_new_job_waits_with_everything_it_was_given(store: Store, clock: ManualClock) -> None:
    new = job(payload=b"p", headers='{"a":"1"}', priority=7, max_attempts=2, dedup_key="k", keep_done_ms=5)
    assert store.insert([new]) == [Inserted(new.id, True)]
    row = stored(store, new.id)
    assert (row.queue, row.status, row.payload, row.headers) == (QUEUE, "pending", b"p", '{"a":"1"}')
    assert (row.priority, row.max_attempts, row.dedup_key) == (7, 2, "k")
    assert (row.step, row.attempts, row.cancel_requested, row.termination) == (0, 0, False, 0)
    assert row.enqueued_ms == now_ms(clock)
    assert (row.owner, row.claimed_ms, row.lease_until_ms) == (None, None, None), "no owner, no claim, no lease"
    assert (row.is_visible, row.damage) == (True, None)
    assert counts_of(store) == Counts(pending=1)


def test_a_job_for_later_is_scheduled(store: Store, clock: ManualClock) -> None:
    later = now_ms(clock) + 1
    job_id = put_one(store, run_at_ms=later)
    assert stored(store, job_id).status == "scheduled"
    assert stored(store, job_id).run_at_ms == later
    assert counts_of(store) == Counts(scheduled=1)
    assert claims(store) == []


@pytest.mark.parametrize("offset", [0, -1, -100_000])
def test_a_job_for_now_or_the_past_is_pending(store: Store, clock: ManualClock, offset: int) -> None:
    job_id = put_one(store, run_at_ms=now_ms(clock) + offset)
    assert stored(store, job_id).status == "pending"


def test_an_id_that_exists_is_refused_and_nothing_is_written(store: Store) -> None:
    taken = put_one(store)
    with writes_nothing(store), pytest.raises(DuplicateJobIdError, match=taken):
        store.insert([job(id=taken, payload=b"other", id_given=True)])


def test_an_id_of_another_queue_and_of_a_finished_job_is_taken_too(store: Store) -> None:
    taken = put_one(store, keep_done_ms=1000)
    settle(store, claim(store), Ack())
    with writes_nothing(store), pytest.raises(DuplicateJobIdError):
        store.insert([job("elsewhere", id=taken, id_given=True)])


def test_an_id_whose_row_is_gone_is_free(store: Store) -> None:
    gone = put_one(store)
    settle(store, claim(store), Ack())
    assert store.insert([job(id=gone, id_given=True)]) == [Inserted(gone, True)]


def test_a_batch_keeps_its_order(store: Store) -> None:
    ids = put(store, *(job() for _ in range(20)))
    assert [row.id for row in claims(store)] == ids


@pytest.mark.parametrize("position", [0, 2, 4])
def test_a_batch_with_a_taken_id_is_refused_whole(store: Store, position: int) -> None:
    taken = put_one(store, "elsewhere")
    batch = [job(headers='{"x":"y"}', payload=b"z" * 5_000) for _ in range(4)]
    batch.insert(position, job(id=taken, id_given=True))
    with writes_nothing(store), pytest.raises(DuplicateJobIdError):
        store.insert(batch)


def test_a_batch_with_one_id_twice_is_refused_whole(store: Store) -> None:
    twice = job(id_given=True)
    with writes_nothing(store), pytest.raises(DuplicateJobIdError):
        store.insert([job(), twice, job(), job(id=twice.id, id_given=True)])


def test_an_empty_batch_is_no_error_and_writes_nothing(store: Store) -> None:
    put_one(store)
    with writes_nothing(store):
        assert store.insert([]) == []


def test_a_refused_insert_leaves_the_line_as_it_was(store: Store) -> None:
    first = put_one(store)
    for _ in range(3):
        with pytest.raises(TaqubaError):
            store.insert([job(), job(id=first, id_given=True)])
    second = put_one(store)
    assert [row.id for row in claims(store)] == [first, second]


# Dedup keys


def test_a_held_dedup_key_answers_with_the_job_that_is_there(store: Store) -> None:
    there = put_one(store, dedup_key="k", payload=b"first")
    with writes_nothing(store):
        assert store.insert([job(dedup_key="k", payload=b"second")]) == [Inserted(there, False)]


def test_a_dedup_key_belongs_to_its_queue(store: Store) -> None:
    there = put_one(store, dedup_key="k")
    other = put_one(store, "elsewhere", dedup_key="k")
    assert there != other
    assert stored(store, other).queue == "elsewhere"


def test_a_scheduled_job_holds_its_dedup_key(store: Store, clock: ManualClock) -> None:
    there = put_one(store, dedup_key="k", run_at_ms=now_ms(clock) + 60_000)
    assert put_one(store, dedup_key="k") == there


def test_a_claim_frees_the_dedup_key(store: Store) -> None:
    first = put_one(store, dedup_key="k")
    claim(store)
    assert stored(store, first).dedup_key is None
    assert put_one(store, dedup_key="k") != first


def test_a_nacked_job_does_not_take_its_dedup_key_back(store: Store) -> None:
    put_one(store, dedup_key="k")
    held = claim(store)
    successor = put_one(store, dedup_key="k")
    settle(store, held, Nack("boom"))
    assert stored(store, successor).dedup_key == "k"
    assert stored(store, held.id).dedup_key is None


def test_a_cancelled_and_a_dead_job_free_the_dedup_key(store: Store) -> None:
    cancelled = put_one(store, dedup_key="k", keep_done_ms=100_000)
    store.cancel(cancelled)
    dead = put_one(store, dedup_key="k")
    assert dead != cancelled
    settle(store, claim(store), DeadLetter("x"))
    assert put_one(store, dedup_key="k") not in (cancelled, dead)


def test_a_dedup_key_given_twice_in_one_batch_answers_with_the_first(store: Store) -> None:
    first, second = job(dedup_key="k"), job(dedup_key="k")
    assert store.insert([first, job(), second])[::2] == [Inserted(first.id, True), Inserted(first.id, False)]
    assert len(dump(store)["rows"]) == 2


def test_jobs_without_a_dedup_key_never_meet(store: Store) -> None:
    assert len({put_one(store) for _ in range(3)}) == 3


# What is frozen


def test_limits_are_those_of_the_insert_whatever_comes_later(store: Store) -> None:
    put_one(store, max_attempts=1)
    put_one(store, max_attempts=9)
    assert [row.max_attempts for row in claims(store)] == [1, 9]


def test_a_run_starts_at_step_zero_and_holds_no_dedup_key(store: Store) -> None:
    (answer,) = store.insert([run("r")])
    row = stored(store, answer.job_id)
    assert (row.run_id, row.step, row.dedup_key, row.status) == ("r", 0, None, "pending")


def test_a_job_inserted_twice_with_the_same_generated_id_is_an_error_and_writes_nothing(store: Store) -> None:
    taken = put_one(store)
    with writes_nothing(store), pytest.raises(TaqubaError):
        store.insert([job(), job(id=taken)])


def test_other_callers_are_unharmed_by_a_refused_batch(store: Store) -> None:
    put_one(store)
    held = claim(store)
    with pytest.raises(DuplicateJobIdError):
        store.insert([job(id=held.id, id_given=True)])
    assert refusal(store, held, Ack()) is None
    assert status(store, held.id) is None
