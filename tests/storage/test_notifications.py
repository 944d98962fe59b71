"""Every commit that terminates a run of an observed queue inserts its notification, whoever performs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from taquba_workflow_sync.storage.port.cancellation import CancelOutcome
from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, DeadLetter, Nack, Release, SettleCancelled
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    LANE,
    LEASE_MS,
    QUEUE,
    claim,
    claims,
    counts_of,
    ending,
    now_ms,
    owner_of,
    put,
    put_one,
    put_run,
    rows_of,
    run,
    settle,
    stored,
    subscribe,
    version_of,
    writes_nothing,
)
from .conftest import MakeStore


def told(store: Store) -> list[dict[str, Any]]:
    """What the lane holds, decoded."""
    return [{"id": row.id, "payload": row.payload, **json.loads(row.headers)} for row in
            (stored(store, each.id) for each in rows_of(store, LANE))]  # fmt: skip


@dataclass(frozen=True)
class End:
    """One way a run terminates: how, and what its notification must say."""

    act: Callable[[Store, str, ManualClock], None]
    status: str
    error: str | None = None
    payload: bytes = b""


def _reap(store: Store, job_id: str, clock: ManualClock) -> None:
    held = claim(store)
    claims(store, 0, abandoned=store.abandoned_claims(own={held.token}))


def _reap_cancelled(store: Store, job_id: str, clock: ManualClock) -> None:
    held = claim(store)
    store.cancel(job_id)
    claims(store, 0, abandoned=store.abandoned_claims(own={held.token}))


def _cancel_dead(store: Store, job_id: str, clock: ManualClock) -> None:
    held = claim(store)
    store.cancel(job_id, abandoned=store.abandoned_claims(own={held.token}))


def _expire(store: Store, job_id: str, clock: ManualClock) -> None:
    claim(store, is_bare=True)
    clock.advance(LEASE_MS / 1000)
    claims(store, 0)


def _cancel_scheduled(store: Store, job_id: str, clock: ManualClock) -> None:
    settle(store, claim(store), Advance(b"input", delay_ms=5_000))
    store.cancel(job_id)


ENDS = {
    "success": End(lambda s, j, c: settle(s, claim(s), Ack(result=b"res")), "succeeded", None, b"res"),
    "failure": End(lambda s, j, c: settle(s, claim(s), Ack(Verdict.FAILED, None, "no")), "failed", "no"),
    "dead letter": End(lambda s, j, c: settle(s, claim(s), DeadLetter("broken")), "failed", "broken"),
    "runner's cancel": End(lambda s, j, c: settle(s, claim(s), SettleCancelled("why")), "cancelled", "why"),
    "settled cancelled": End(lambda s, j, c: settle(s, claim(s), SettleCancelled()), "cancelled"),
    "cancel of a waiting run": End(lambda s, j, c: s.cancel(j) and None, "cancelled"),
    "cancel of a scheduled run": End(_cancel_scheduled, "cancelled"),
    "cancel of a dead claim": End(_cancel_dead, "cancelled"),
    "reaped as dead": End(_reap, "failed", "out of attempts"),
    "reaped as cancelled": End(_reap_cancelled, "cancelled"),
    "expired as dead": End(_expire, "failed", "out of attempts"),
}
each_end = pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())


@each_end
def test_the_end_of_a_run_is_told_in_the_same_commit(store: Store, clock: ManualClock, end: End) -> None:
    subscribe(store, max_attempts=7)
    job_id = put_run(store, "the-run", max_attempts=1, priority=42, headers='{"mine":"ü"}')
    end.act(store, job_id, clock)
    (note,) = told(store)
    row = stored(store, job_id)
    assert note["id"] == f"{job_id}-1"
    assert note["payload"] == end.payload
    assert note["workflow.run_id"] == "the-run"
    assert note["workflow.job_id"] == job_id
    assert note["workflow.status"] == end.status
    assert note["workflow.termination"] == "1"
    assert note["workflow.step"] == str(row.step)
    assert note["workflow.finished_at_ms"] == str(row.finished_ms) == str(now_ms(clock))
    assert note["mine"] == "ü"
    if end.error is None:
        assert "workflow.error" not in note
    else:
        assert end.error in note["workflow.error"]
    told_row = stored(store, note["id"])
    assert (told_row.priority, told_row.max_attempts, told_row.run_id) == (42, 7, None)
    assert counts_of(store, LANE) == Counts(pending=1)
    assert counts_of(store, QUEUE).pending == 0, "not counted in the step queue"


@each_end
def test_nobody_is_told_of_a_queue_without_observer(store: Store, clock: ManualClock, end: End) -> None:
    subscribe(store, "another-queue")
    end.act(store, put_run(store, max_attempts=1), clock)
    assert LANE not in store.counts()


@each_end
def test_nobody_is_told_of_a_bare_job(store: Store, clock: ManualClock, end: End) -> None:
    subscribe(store)
    end.act(store, put_one(store, max_attempts=1), clock)
    assert told(store) == []


@each_end
@pytest.mark.parametrize("keep", [None, 0, 60_000])
def test_a_run_of_which_nothing_is_kept_is_told_of_too(
    store: Store, clock: ManualClock, end: End, keep: int | None
) -> None:
    subscribe(store)
    end.act(store, put_run(store, max_attempts=1, keep_done_ms=keep), clock)
    assert len(told(store)) == 1


@each_end
def test_a_second_termination_is_told_beside_an_undelivered_first(store: Store, clock: ManualClock, end: End) -> None:
    subscribe(store)
    job_id = put_run(store, max_attempts=1)
    settle(store, claim(store), DeadLetter("first"))
    store.requeue(job_id)
    end.act(store, job_id, clock)
    assert [note["id"] for note in told(store)] == [f"{job_id}-1", f"{job_id}-2"]
    assert [note["workflow.termination"] for note in told(store)] == ["1", "2"]
    assert stored(store, job_id).termination == 2


@pytest.mark.parametrize("action", [Advance(b"x"), Advance(b"x", delay_ms=5), Nack("boom"), Release()])
def test_what_does_not_terminate_tells_nothing(store: Store, action: Advance | Nack | Release) -> None:
    subscribe(store)
    put_run(store)
    settle(store, claim(store), action)
    assert told(store) == []


def test_a_refused_settlement_tells_nothing(store: Store) -> None:
    subscribe(store)
    put_run(store)
    held = claim(store)
    settle(store, held, Ack())
    with writes_nothing(store):
        store.settle_and_claim([ending(held, Ack(result=b"late"))], [])


def test_the_notification_is_claimed_in_the_turn_that_settles(store: Store) -> None:
    subscribe(store)
    put(store, run("a"), run("b"))
    held = claim(store)
    request = ClaimRequest((LaneClaim(LANE, 9_000), LaneClaim(QUEUE, LEASE_MS)), 2)
    refusals, claimed = store.settle_and_claim([ending(held, Ack(result=b"x"))], [request])
    assert refusals == [None]
    assert [(row.queue, row.id) for row in claimed] == [(LANE, f"{held.id}-1"), (QUEUE, claimed[1].id)]
    assert claimed[0].payload == b"x"


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_cancel_may_take_the_notification_claimed(store: Store, clock: ManualClock, scheduled: bool) -> None:
    subscribe(store)
    job_id = put_run(store, run_at_ms=now_ms(clock) + 1_000 if scheduled else None)
    answer = store.cancel(job_id, deliver=LaneClaim(LANE, 600_000))
    note = answer.notification
    assert answer.outcome is CancelOutcome.REMOVED
    assert note is not None
    assert (note.id, note.queue, note.attempts) == (f"{job_id}-1", LANE, 1)
    assert note.lease_until_ms == now_ms(clock) + 600_000
    assert json.loads(note.headers)["workflow.status"] == "cancelled"
    assert counts_of(store, LANE) == Counts(claimed=1)
    assert claims(store, queue=LANE) == [], "it runs where it was cancelled, once"
    assert owner_of(store) == stored(store, note.id).owner
    settle(store, note, Ack())
    assert counts_of(store, LANE) == Counts(done=1)


def test_a_cancel_that_only_requests_brings_no_notification(store: Store) -> None:
    subscribe(store)
    job_id = put_run(store)
    claim(store)
    assert store.cancel(job_id, deliver=LaneClaim(LANE, 1_000)).notification is None
    assert told(store) == []


def test_a_cancel_without_an_observer_brings_no_notification(store: Store) -> None:
    job_id = put_run(store)
    assert store.cancel(job_id, deliver=LaneClaim(LANE, 1_000)).notification is None
    assert set(store.counts()) == {QUEUE}


def test_an_observer_is_known_to_every_handle_and_survives_a_restart(make_store: MakeStore) -> None:
    first, second = make_store(), make_store()
    put(second, run("before"), run("after"))
    settle(second, claim(second), Ack())
    subscribe(first)
    settle(second, claim(second), Ack())
    first.close()
    third = make_store()
    put_run(third, "later")
    settle(third, claim(third), Ack())
    assert [note["workflow.run_id"] for note in told(third)] == ["after", "later"]


def test_the_last_observer_registered_holds(store: Store) -> None:
    subscribe(store, lane="old-lane")
    store.subscribe(QUEUE, Subscription(LANE, 2, 77))
    job_id = put_run(store)
    settle(store, claim(store), Ack())
    assert store.get(f"{job_id}-1") is not None
    assert (stored(store, f"{job_id}-1").queue, stored(store, f"{job_id}-1").max_attempts) == (LANE, 2)


def test_registering_the_same_observer_again_writes_nothing(store: Store) -> None:
    subscribe(store)
    before = version_of(store)
    with writes_nothing(store):
        subscribe(store)
    assert version_of(store) == before


def test_large_headers_and_results_are_carried_whole(store: Store) -> None:
    subscribe(store)
    headers = json.dumps({"big": "h" * 60_000})
    put_run(store, headers=headers)
    settle(store, claim(store), Ack(result=b"r" * 100_000))
    (note,) = told(store)
    assert (note["big"], note["payload"]) == ("h" * 60_000, b"r" * 100_000)


def test_a_very_long_error_does_not_swell_the_notification(store: Store) -> None:
    subscribe(store)
    put_run(store)
    settle(store, claim(store), DeadLetter("e" * 1_000_000))
    (note,) = told(store)
    assert len(note["workflow.error"]) < 20_000


def test_notifications_of_one_turn_are_all_there_in_order(store: Store) -> None:
    subscribe(store)
    put(store, *(run(f"r{number}") for number in range(20)))
    store.settle_and_claim([ending(row, Ack()) for row in claims(store)], [])
    assert [note["workflow.run_id"] for note in told(store)] == [f"r{number}" for number in range(20)]


def test_a_notification_that_died_does_not_stand_in_the_way_of_the_next_end(store: Store) -> None:
    subscribe(store, max_attempts=1)
    job_id = put_run(store)
    settle(store, claim(store), DeadLetter("x"))
    settle(store, claim(store, queue=LANE), DeadLetter("the hook is broken"))
    store.requeue(job_id)
    settle(store, claim(store), DeadLetter("y"))
    assert [row.status for row in rows_of(store, LANE)] == ["dead", "pending"]
