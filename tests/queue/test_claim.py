"""Claiming: what a claim holds, whose turn it is, and when a lease is over."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from taquba_workflow_sync import ClaimLostError, JobStatus, Queue, QueueConfig
from taquba_workflow_sync.queue.new_job import new_job
from taquba_workflow_sync.testing import ManualClock

from .support import START, claimed, counters, stored


def test_an_empty_queue_has_nothing_to_claim(queue: Queue) -> None:
    assert queue.claim("q") is None
    assert queue.claim_batch("q", 5) == []
    assert queue.list_queues() == [], "looking must not make a queue"


def test_a_claim_holds_the_job_as_it_is_now(still: Queue) -> None:
    job_id = still.enqueue("q", b"p", headers={"h": "1"}, dedup_key="k")

    claim = claimed(still)

    assert claim.job == stored(still, job_id)
    assert (claim.job.status, claim.job.attempts, claim.job.dedup_key) == (JobStatus.CLAIMED, 1, None)
    assert (claim.job.claimed_at, claim.job.lease_expires_at) == (START, START + timedelta(seconds=30))
    assert not claim.cancel_token.is_set()


def test_a_claimed_job_is_not_claimed_again(queue: Queue) -> None:
    queue.enqueue("q", b"")
    claimed(queue)

    assert queue.claim("q") is None


def test_every_claim_has_a_token_of_its_own(queue: Queue) -> None:
    queue.enqueue("q", b"", max_attempts=50)
    tokens = set()
    for _ in range(20):
        claim = claimed(queue)
        tokens.add(claim.token)
        queue.nack(claim, "again")

    assert len(tokens) == 20


def test_a_batch_takes_no_more_than_asked_for(queue: Queue) -> None:
    ids = queue.enqueue_batch("q", [b""] * 5)

    assert [claim.job.id for claim in queue.claim_batch("q", 3)] == ids[:3]
    assert [claim.job.id for claim in queue.claim_batch("q", 3)] == ids[3:]


def test_a_claim_takes_from_its_queue_only(queue: Queue) -> None:
    queue.enqueue("a", b"")

    assert queue.claim("b") is None


def test_the_lease_asked_for_goes_before_the_configured_one(tmp_path: Path, clock: ManualClock) -> None:
    config = QueueConfig(lease_duration=timedelta(minutes=2))
    with Queue.open(tmp_path / "s", default_config=config, clock=clock) as queue:
        queue.enqueue_batch("q", [b"", b"", b""])
        leases = [claimed(queue).job.lease_expires_at, claimed(queue, lease=5).job.lease_expires_at]
        leases.append(queue.claim_batch("q", 1, lease=timedelta(hours=1))[0].job.lease_expires_at)

    assert leases == [START + timedelta(seconds=each) for each in (120, 5, 3600)]


def test_an_expired_bare_claim_is_taken_over_at_its_place_with_another_attempt(
    still: Queue, clock: ManualClock
) -> None:
    first, second = still.enqueue_batch("q", [b"1", b"2"])
    lost = claimed(still)
    clock.advance(30)

    taken = claimed(still)

    assert (taken.job.id, taken.job.attempts) == (first, 2)
    assert taken.token != lost.token
    assert claimed(still).job.id == second


def test_a_bare_lease_holds_until_its_last_millisecond(still: Queue, clock: ManualClock) -> None:
    still.enqueue("q", b"")
    claimed(still)
    clock.advance(29.999)
    assert still.claim("q") is None
    clock.advance(0.001)
    assert still.claim("q") is not None


def test_an_expired_lease_that_nobody_took_over_still_settles(still: Queue, clock: ManualClock) -> None:
    job_id = still.enqueue("q", b"")
    claim = claimed(still)
    clock.advance(1_000_000)

    still.ack(claim)

    assert still.get_job(job_id) is None
    assert counters(still) == {"done": 1}


def test_a_settlement_after_the_takeover_is_fenced_off_and_changes_nothing(still: Queue, clock: ManualClock) -> None:
    job_id = still.enqueue("q", b"")
    lost = claimed(still)
    clock.advance(31)
    held = claimed(still)
    before = stored(still, job_id)

    with pytest.raises(ClaimLostError, match=job_id):
        still.ack(lost)

    assert stored(still, job_id) == before
    still.ack(held)


def test_a_job_whose_every_claim_expires_ends_as_a_dead_letter(still: Queue, clock: ManualClock) -> None:
    job_id = still.enqueue("q", b"", max_attempts=3)
    for attempt in (1, 2, 3):
        assert claimed(still).job.attempts == attempt
        clock.advance(30)

    assert still.claim("q") is None
    job = stored(still, job_id)
    assert (job.status, job.attempts, job.failed_at) == (JobStatus.DEAD, 3, START + timedelta(seconds=90))
    assert job.last_error is not None and "out of attempts" in job.last_error


def test_a_claim_promotes_what_is_due_at_its_place_in_line(still: Queue, clock: ManualClock) -> None:
    scheduled = still.enqueue("q", b"", run_at=START + timedelta(seconds=5))
    pending = still.enqueue("q", b"")
    assert [claim.job.id for claim in still.claim_batch("q", 5)] == [pending]
    clock.advance(4.999)
    assert still.claim("q") is None
    later = still.enqueue("q", b"")
    clock.advance(0.001)

    assert [claim.job.id for claim in still.claim_batch("q", 5)] == [scheduled, later]


def test_a_wall_clock_stepping_back_takes_nothing_over(still: Queue, clock: ManualClock) -> None:
    still.enqueue("q", b"")
    claim = claimed(still)
    clock.advance(-3600)

    assert still.claim("q") is None
    still.ack(claim)


def test_two_handles_of_one_store_never_claim_the_same_job(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s") as one, Queue.open(tmp_path / "s") as two:
        ids = one.enqueue_batch("q", [b""] * 10)
        taken = [claimed(each).job.id for _ in range(5) for each in (one, two)]

    assert taken == ids


def test_more_due_jobs_than_one_transaction_promotes_are_all_claimed(still: Queue, clock: ManualClock) -> None:
    for _ in range(2):
        with_run_at = [new_job(still.handle, "q", b"", run_at=START + timedelta(seconds=1)) for _ in range(600)]
        still.handle.store.insert(with_run_at)
    clock.advance(1)

    taken = 0
    while claims := still.claim_batch("q", 1000):
        taken += len(claims)

    assert taken == 1200
