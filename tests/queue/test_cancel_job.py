"""Cancelling bare jobs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from taquba_workflow_sync import AttemptOutcome, CancelOutcome, JobStatus, Queue, QueueConfig
from taquba_workflow_sync.testing import ManualClock

from .support import START, claimed, counters, stored


@pytest.mark.parametrize("run_at", [None, START + timedelta(days=1)])
def test_a_waiting_job_leaves_the_queue_once(still: Queue, run_at: object) -> None:
    job_id = still.enqueue("q", b"", run_at=run_at)  # type: ignore[arg-type]  # None or a datetime

    assert still.cancel(job_id) is CancelOutcome.REMOVED
    assert still.cancel(job_id) is CancelOutcome.NOT_FOUND
    assert still.get_job(job_id) is None
    assert still.claim("q") is None
    assert counters(still) == {"cancelled": 1}


def test_an_unknown_job_is_not_found(queue: Queue) -> None:
    assert queue.cancel("nobody") is CancelOutcome.NOT_FOUND


def test_a_claimed_job_is_asked_as_often_as_one_likes(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"")
    claim = claimed(queue)

    assert queue.cancel(job_id) is CancelOutcome.REQUESTED
    assert queue.cancel(job_id) is CancelOutcome.REQUESTED
    assert claim.cancel_token.is_set()
    assert stored(queue, job_id).cancel_requested
    assert counters(queue) == {"claimed": 1}
    queue.ack(claim)


def test_a_dead_or_kept_job_is_not_found_and_left_alone(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s", default_config=QueueConfig(keep_done_jobs=60)) as queue:
        dead, done = queue.enqueue_batch("q", [b"", b""])
        queue.dead_letter(claimed(queue), "no")
        queue.ack(claimed(queue))

        assert [queue.cancel(each) for each in (dead, done)] == [CancelOutcome.NOT_FOUND] * 2
        assert [stored(queue, each).status for each in (dead, done)] == [JobStatus.DEAD, JobStatus.DONE]


def test_a_cancelled_job_is_kept_where_done_jobs_are(tmp_path: Path, clock: ManualClock) -> None:
    with Queue.open(tmp_path / "s", default_config=QueueConfig(keep_done_jobs=60), clock=clock) as queue:
        job_id = queue.enqueue("q", b"")

        assert queue.cancel(job_id) is CancelOutcome.REMOVED
        assert queue.cancel(job_id) is CancelOutcome.NOT_FOUND
        assert (stored(queue, job_id).status, stored(queue, job_id).completed_at) == (JobStatus.CANCELLED, START)


def test_a_cancel_survives_a_nack_and_the_next_claim_starts_with_its_token_set(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"")
    claim = claimed(queue)
    queue.cancel(job_id)
    queue.nack(claim, "again")

    again = claimed(queue)

    assert again.cancel_token.is_set()
    assert again.job.cancel_requested
    queue.ack(again)


def test_a_cancel_survives_a_reopen(tmp_path: Path, clock: ManualClock) -> None:
    with Queue.open(tmp_path / "s", clock=clock) as queue:
        job_id = queue.enqueue("q", b"")
        claim = claimed(queue)
        queue.cancel(job_id)
    with Queue.open(tmp_path / "s", clock=clock) as queue:
        assert stored(queue, job_id).cancel_requested
        queue.nack(claim, "again")
        clock.advance(1)
        assert claimed(queue).cancel_token.is_set()


def test_an_expired_claim_that_was_asked_to_cancel_is_reaped_as_cancelled(tmp_path: Path, clock: ManualClock) -> None:
    with Queue.open(tmp_path / "s", default_config=QueueConfig(keep_done_jobs=60), clock=clock) as queue:
        job_id = queue.enqueue("q", b"")
        claimed(queue)
        queue.cancel(job_id)
        clock.advance(30)

        assert queue.claim("q") is None
        assert stored(queue, job_id).status is JobStatus.CANCELLED
        assert [attempt.outcome for attempt in queue.attempt_history(job_id)] == [AttemptOutcome.REAPED]


def test_a_requested_cancel_does_not_keep_a_bare_worker_from_acking(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"")
    claim = claimed(queue)
    queue.cancel(job_id)
    queue.ack(claim)

    assert counters(queue) == {"done": 1}


def test_a_cancel_through_another_handle_reaches_the_token_of_this_process(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s") as one, Queue.open(tmp_path / "s") as two:
        job_id = one.enqueue("q", b"")
        claim = claimed(one)
        two.cancel(job_id)

        assert claim.cancel_token.is_set()


def test_cancelling_one_job_tells_no_other(queue: Queue) -> None:
    first, _ = queue.enqueue_batch("q", [b"", b""])
    one, two = queue.claim_batch("q", 2)
    queue.cancel(first)

    assert (one.cancel_token.is_set(), two.cancel_token.is_set()) == (True, False)
