"""A job's history: one line for each claim that ended, the first 100 and the last 1,000 of them."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.storage.port.settlement import Ack, Action, Advance, DeadLetter, Nack, Release
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import QUEUE, claim, claims, ending, put, put_one, put_run, rows_of, run, settle, stored


def test_an_unknown_job_has_no_history(store: Store) -> None:
    assert store.history("nobody") == []


def test_a_job_that_was_never_claimed_has_no_history(store: Store) -> None:
    assert store.history(put_one(store)) == []


def test_history_tells_step_attempt_times_and_outcome_in_order(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    start = stored(store, job_id).enqueued_ms
    for action in (Nack("a"), Nack("b"), Advance(b"x"), Nack("c"), Ack()):
        held = claim(store)
        clock.advance(1)
        settle(store, held, action)
    assert [tuple(each)[1:] for each in store.history(job_id)] == [
        (0, 1, start, start + 1_000, "retried", "a"),
        (0, 2, start + 1_000, start + 2_000, "retried", "b"),
        (0, 3, start + 2_000, start + 3_000, "continued", None),
        (1, 1, start + 3_000, start + 4_000, "retried", "c"),
        (1, 2, start + 4_000, start + 5_000, "succeeded", None),
    ]
    ordinals = [each.ordinal for each in store.history(job_id)]
    assert ordinals == sorted(set(ordinals))


def _go_round(store: Store, action: Action, times: int, *, together: int = 1) -> None:
    put(store, *(run(f"r{number}", max_attempts=100_000) for number in range(together)))
    for _ in range(times):
        held = claims(store)
        assert len(held) == together
        assert not any(store.settle_and_claim([ending(row, action, yields_to_cancel=True) for row in held], [])[0])


@pytest.mark.parametrize("action", [Advance(b"x"), Nack("boom")], ids=["advance", "nack"])
@pytest.mark.parametrize("together", [1, 2], ids=["alone", "in bulk"])
def test_history_keeps_the_first_hundred_and_the_last_thousand(store: Store, action: Action, together: int) -> None:
    _go_round(store, action, 1_250, together=together)
    for row in rows_of(store, QUEUE):
        kept = store.history(row.id)
        counted = [each.step + 1 if isinstance(action, Advance) else each.attempt for each in kept]
        assert counted == [*range(1, 101), *range(251, 1_251)]


def test_history_is_whole_up_to_eleven_hundred(store: Store) -> None:
    _go_round(store, Nack("boom"), 1_100)
    (row,) = rows_of(store, QUEUE)
    assert [each.attempt for each in store.history(row.id)] == list(range(1, 1_101))


def test_a_release_leaves_no_gap_and_no_line(store: Store) -> None:
    job_id = put_run(store)
    for action in (Nack("a"), Release(), Release(), Nack("b")):
        settle(store, claim(store), action)
    history = store.history(job_id)
    assert [(each.attempt, each.error) for each in history] == [(1, "a"), (2, "b")]
    assert history[1].ordinal == history[0].ordinal + 1


def test_history_goes_on_after_a_requeue(store: Store) -> None:
    job_id = put_run(store)
    settle(store, claim(store), DeadLetter("x"))
    store.requeue(job_id)
    settle(store, claim(store), Ack())
    assert [(each.attempt, each.outcome) for each in store.history(job_id)] == [(1, "dead"), (1, "succeeded")]


def test_a_reused_id_starts_with_an_empty_history(store: Store) -> None:
    first = put_one(store)
    settle(store, claim(store), Nack("a"))
    settle(store, claim(store), Ack())
    second = put_one(store, id=first)
    assert second == first
    assert store.history(second) == []
