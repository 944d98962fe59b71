"""Putting dead letters back."""

from __future__ import annotations

import pytest

from taquba_workflow_sync import InvalidStateError, JobNotFoundError, JobStatus, Queue
from taquba_workflow_sync.testing import ManualClock

from .support import claimed, counters, stored


def test_a_requeued_job_has_all_its_attempts_and_no_error(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"payload", headers={"h": "1"}, max_attempts=2)
    for _ in range(2):
        queue.nack(claimed(queue), "no")

    queue.requeue_dead_job(job_id)

    job = stored(queue, job_id)
    assert (job.status, job.attempts, job.last_error, job.failed_at) == (JobStatus.PENDING, 0, None, None)
    assert (job.payload, job.headers) == (b"payload", {"h": "1"})
    assert counters(queue) == {"pending": 1}
    assert len(queue.attempt_history(job_id)) == 2, "history is kept"


def test_a_requeued_job_stands_at_the_back_of_its_priority(queue: Queue) -> None:
    first, second = queue.enqueue_batch("q", [b"", b""])
    queue.dead_letter(claimed(queue), "no")
    queue.requeue_dead_job(first)

    assert [claim.job.id for claim in queue.claim_batch("q", 2)] == [second, first]


def test_a_requeue_clears_the_cancel_flag(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"")
    claim = claimed(queue)
    queue.cancel(job_id)
    queue.dead_letter(claim, "no")
    queue.requeue_dead_job(job_id)

    assert not stored(queue, job_id).cancel_requested
    assert not claimed(queue).cancel_token.is_set()


def test_a_requeued_job_may_die_and_be_requeued_again(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"", max_attempts=1)
    for round_number in range(3):
        queue.nack(claimed(queue), f"round {round_number}")
        assert counters(queue) == {"dead": 1}
        queue.requeue_dead_job(job_id)

    queue.ack(claimed(queue))
    assert counters(queue) == {"done": 1}


def test_only_dead_jobs_are_requeued(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"")
    with pytest.raises(InvalidStateError, match="pending"):
        queue.requeue_dead_job(job_id)
    claim = claimed(queue)
    with pytest.raises(InvalidStateError, match="claimed"):
        queue.requeue_dead_job(job_id)
    queue.ack(claim)


def test_a_job_that_is_not_there_is_not_found_and_not_made(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"")
    queue.ack(claimed(queue))

    for gone in (job_id, "never-was"):
        with pytest.raises(JobNotFoundError, match=gone):
            queue.requeue_dead_job(gone)
    assert queue.get_job(job_id) is None


def test_a_requeue_ends_the_retention_that_ran(still: Queue, clock: ManualClock) -> None:
    """A requeued job must not be swept by the retention of its time as a dead letter."""
    job_id = still.enqueue("q", b"")
    still.dead_letter(claimed(still), "no")
    still.requeue_dead_job(job_id)
    clock.advance(8 * 24 * 3600)
    still.handle.store.sweep()

    assert stored(still, job_id).status is JobStatus.PENDING
