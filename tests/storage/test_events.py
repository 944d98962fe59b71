"""What happened to a run: derived from its row and its attempts, noted where they do not tell, in order, bounded."""

from __future__ import annotations

import os

import pytest

from taquba_workflow_sync.storage.port.event import EventKind, EventRow
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Advance,
    DeadLetter,
    Nack,
    PutBack,
    Release,
    SettleCancelled,
)
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import KEEP_MS, claim, claims, ending, holding, now_ms, put, put_one, put_run, run, settle, stored
from .conftest import MakeStore
from .deaths import Deaths

SUBMITTED, STARTED, ENDED, TERMINATED = EventKind.SUBMITTED, EventKind.STARTED, EventKind.ENDED, EventKind.TERMINATED
ASKED, RETRIED = EventKind.CANCEL_REQUESTED, EventKind.RETRIED


def kinds(store: Store, job_id: str) -> list[EventKind]:
    return [event.kind for event in store.events(job_id)]


def of_kind(store: Store, job_id: str, *wanted: EventKind) -> list[EventRow]:
    return [event for event in store.events(job_id) if event.kind in wanted]


def test_nobody_has_no_events(store: Store) -> None:
    assert store.events("nobody") == []


def test_a_bare_job_has_no_events_whatever_happens_to_it(store: Store) -> None:
    job_id = put_one(store)
    claim(store)
    store.cancel(job_id, reason="enough")
    assert store.events(job_id) == []


def test_a_run_tells_of_its_submit_and_of_each_attempts_start_and_end(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    begin = now_ms(clock)
    clock.advance(1)
    first = claim(store)
    clock.advance(1)
    settle(store, first, Nack("boom"))
    clock.advance(1)
    second = claim(store)
    clock.advance(1)
    settle(store, second, Advance(b"next"), yields_to_cancel=True)
    clock.advance(1)
    last = claim(store)
    clock.advance(1)
    settle(store, last, Ack(result=b"result"), yields_to_cancel=True)
    told = [(e.kind, e.at_ms - begin, e.step, e.attempt, e.outcome, e.error) for e in store.events(job_id)]
    assert told == [
        (SUBMITTED, 0, 0, None, None, None),
        (STARTED, 1_000, 0, 1, None, None),
        (ENDED, 2_000, 0, 1, "retried", "boom"),
        (STARTED, 3_000, 0, 2, None, None),
        (ENDED, 4_000, 0, 2, "continued", None),
        (STARTED, 5_000, 1, 1, None, None),
        (ENDED, 6_000, 1, 1, "succeeded", None),
        (TERMINATED, 6_000, 1, None, "succeeded", None),
    ]


def test_the_claim_that_holds_has_started_and_not_ended(store: Store) -> None:
    job_id = put_run(store)
    claim(store)
    assert kinds(store, job_id) == [SUBMITTED, STARTED]


@pytest.mark.parametrize("together", [1, 3], ids=["alone", "in bulk"])
@pytest.mark.parametrize("how", ["advance", "hold", "ack"])
def test_each_attempt_names_the_process_that_made_it(store: Store, how: str, together: int) -> None:
    ids = put(store, *(run(f"r{number}") for number in range(together)))
    held = claims(store)
    match how:
        case "hold":
            ends = [holding(store, row) for row in held]
        case _:
            ends = [ending(row, Ack() if how == "ack" else Advance(b"x"), yields_to_cancel=True) for row in held]
    store.settle_and_claim(ends, [])
    for job_id in ids:
        of_claims = of_kind(store, job_id, STARTED, ENDED)
        assert len(of_claims) == (3 if how == "hold" else 2)
        assert {event.pid for event in of_claims} == {os.getpid()}
        assert all(event.host for event in of_claims)


def test_an_attempt_that_another_handle_ends_is_its_claimers(make_store: MakeStore) -> None:
    first, second = make_store(), make_store()
    ids = put(first, run("a"), run("b"))
    held = claims(first)
    second.settle_and_claim([ending(row, Advance(b"x"), yields_to_cancel=True) for row in held], [])
    for job_id in ids:
        assert [event.pid for event in of_kind(second, job_id, ENDED)] == [os.getpid()]


def test_a_bare_claim_is_nobodys(store: Store) -> None:
    job_id = put_run(store)
    settle(store, claim(store, is_bare=True), Nack("boom"))
    assert [(event.host, event.pid) for event in of_kind(store, job_id, STARTED, ENDED)] == [(None, None)] * 2


def test_a_reaped_attempt_is_the_dead_processs(store: Store, deaths: Deaths) -> None:
    job_id = put_run(store)
    held = deaths.take("owner")
    claims(store, 0, abandoned=deaths.let_die("owner", held))
    (ended,) = of_kind(store, job_id, ENDED)
    assert (ended.outcome, ended.pid) == ("reaped", os.getpid())
    assert ended.host


def test_a_cancel_request_is_told_once_with_its_reason(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.cancel(job_id, reason="enough")
    store.cancel(job_id, reason="again")
    settle(store, held, SettleCancelled())
    assert kinds(store, job_id) == [SUBMITTED, STARTED, ASKED, ENDED, TERMINATED]
    (asked,) = of_kind(store, job_id, ASKED)
    assert asked.detail == "enough"


def test_a_run_that_waits_and_is_cancelled_just_ends(store: Store) -> None:
    job_id = put_run(store)
    store.cancel(job_id, reason="not needed")
    assert [(e.kind, e.outcome, e.error) for e in store.events(job_id)][1:] == [(TERMINATED, "cancelled", "not needed")]


def test_a_retry_keeps_the_termination_that_it_overwrites(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    settle(store, claim(store), DeadLetter("broken"))
    failed_at = now_ms(clock)
    clock.advance(60)
    store.requeue(job_id, failed_run=True, payload=b"other", clears_memo=True)
    settle(store, claim(store), Ack(Verdict.FAILED, None, "no"))
    clock.advance(60)
    store.requeue(job_id, failed_run=True)
    assert kinds(store, job_id) == [
        SUBMITTED, STARTED, ENDED, TERMINATED, RETRIED, STARTED, ENDED, TERMINATED, RETRIED,
    ]  # fmt: skip
    first, second = of_kind(store, job_id, TERMINATED)
    assert (first.at_ms, first.outcome, first.error) == (failed_at, "failed", "broken")
    assert (second.outcome, second.error) == ("failed", "no")
    assert [e.detail for e in of_kind(store, job_id, RETRIED)] == [
        "with another payload, with its memos cleared", None,
    ]  # fmt: skip


def test_a_requeue_of_a_dead_run_is_a_retry_in_its_history(store: Store) -> None:
    job_id = put_run(store)
    settle(store, claim(store), DeadLetter("broken"))
    store.requeue(job_id)
    assert kinds(store, job_id)[-2:] == [TERMINATED, RETRIED]


def test_a_released_claim_leaves_no_trace_but_what_was_noted_under_it(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.cancel(job_id)
    settle(store, held, Release())
    assert kinds(store, job_id) == [SUBMITTED, ASKED]
    settle(store, claim(store), SettleCancelled())
    assert kinds(store, job_id) == [SUBMITTED, ASKED, STARTED, ENDED, TERMINATED]


def test_what_was_put_back_is_in_the_history(store: Store) -> None:
    job_id = put_run(store)
    settle(store, claim(store), PutBack(0, "not now"))
    assert [(e.outcome, e.error) for e in of_kind(store, job_id, ENDED)] == [("put_back", "not now")]


def test_events_keep_the_first_hundred_and_the_last_thousand(store: Store) -> None:
    job_id = put_run(store, max_attempts=10_000)
    for _ in range(700):
        settle(store, claim(store), Nack("boom"))
    store.cancel(job_id)
    told = store.events(job_id)
    assert len(told) == 1_100
    assert [(e.kind, e.attempt) for e in told[:3]] == [(SUBMITTED, None), (STARTED, 1), (ENDED, 1)]
    assert [(e.kind, e.attempt) for e in told[-3:]] == [(STARTED, 700), (ENDED, 700), (TERMINATED, None)]


def test_what_is_noted_is_bounded_as_well(store: Store) -> None:
    job_id = put_run(store)
    for _ in range(600):
        settle(store, claim(store), Ack(Verdict.FAILED, None, "no"))
        store.requeue(job_id, failed_run=True)
    assert len(store.events(job_id)) == 1_100
    assert kinds(store, job_id)[-2:] == [TERMINATED, RETRIED]


def test_a_run_that_is_swept_leaves_no_events(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    settle(store, claim(store), DeadLetter("x"))
    store.requeue(job_id)
    settle(store, claim(store), Ack())
    clock.advance(KEEP_MS / 1000 + 1)
    while store.sweep():
        pass
    assert store.events(job_id) == []


def test_texts_come_back_as_they_were(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.cancel(job_id, reason="a\ufdd0b")
    settle(store, held, SettleCancelled())
    assert stored(store, job_id).last_error == of_kind(store, job_id, ASKED)[0].detail
