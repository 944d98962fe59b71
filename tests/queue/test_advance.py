"""Advancing: the same job, one step on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from taquba_workflow_sync import CancelRequestedError, JobStatus, PayloadTooLargeError, Queue
from taquba_workflow_sync.testing import ManualClock

from .support import START, claimed, counters, stored


def test_the_job_is_pending_again_one_step_on_with_fresh_attempts(still: Queue, clock: ManualClock) -> None:
    job_id = still.enqueue("q", b"one", headers={"h": "1"}, priority=7, max_attempts=2)
    still.nack(claimed(still), "a stumble")
    clock.advance(1)
    still.advance(claimed(still), b"two")

    job = stored(still, job_id)
    assert (job.status, job.step, job.attempts, job.payload) == (JobStatus.PENDING, 1, 0, b"two")
    assert (job.headers, job.priority, job.max_attempts, job.last_error) == ({"h": "1"}, 7, 2, None)
    assert counters(still) == {"pending": 1}


def test_headers_given_replace_and_empty_ones_clear(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"", headers={"h": "1"})
    queue.advance(claimed(queue), b"", headers={"g": "x" * 5000})
    assert stored(queue, job_id).headers == {"g": "x" * 5000}
    queue.advance(claimed(queue), b"")
    assert stored(queue, job_id).headers == {"g": "x" * 5000}
    queue.advance(claimed(queue), b"", headers={})
    assert stored(queue, job_id).headers == {}


@pytest.mark.parametrize("delay", [1.5, timedelta(seconds=1.5)])
def test_a_delay_schedules_the_step_to_the_millisecond(
    still: Queue, clock: ManualClock, delay: float | timedelta
) -> None:
    job_id = still.enqueue("q", b"")
    still.advance(claimed(still), b"", delay=delay)

    assert (stored(still, job_id).status, stored(still, job_id).run_at) == (
        JobStatus.SCHEDULED,
        START + timedelta(seconds=1.5),
    )
    clock.advance(1.499)
    assert still.claim("q") is None
    clock.advance(0.001)
    assert claimed(still).job.step == 1


def test_a_delay_of_nothing_is_no_delay(still: Queue) -> None:
    job_id = still.enqueue("q", b"")
    still.advance(claimed(still), b"", delay=0)

    assert stored(still, job_id).status is JobStatus.PENDING


def test_the_next_step_goes_to_the_back_of_its_priority(queue: Queue) -> None:
    first, second = queue.enqueue_batch("q", [b"1", b"2"])
    less_urgent = queue.enqueue("q", b"3", priority=5000)
    queue.advance(claimed(queue), b"")

    assert [claim.job.id for claim in queue.claim_batch("q", 5)] == [second, first, less_urgent]


@pytest.mark.parametrize("sizes", [(0, 5000, 10), (5000, 0, 5000), (3000, 4000, 0)])
def test_payloads_may_grow_and_shrink(queue: Queue, sizes: tuple[int, ...]) -> None:
    job_id = queue.enqueue("q", b"first")
    for size in sizes:
        queue.advance(claimed(queue), b"z" * size)
        assert stored(queue, job_id).payload == b"z" * size


def test_a_requested_cancellation_refuses_and_changes_nothing(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"one")
    claim = claimed(queue)
    queue.cancel(job_id)
    before = stored(queue, job_id)

    with pytest.raises(CancelRequestedError, match=job_id):
        queue.advance(claim, b"two")

    assert stored(queue, job_id) == before
    assert before.cancel_requested
    queue.ack(claim)


def test_a_payload_too_large_is_refused_and_the_claim_still_held(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s", max_payload_bytes=10) as queue:
        queue.enqueue("q", b"")
        claim = claimed(queue)
        with pytest.raises(PayloadTooLargeError):
            queue.advance(claim, b"x" * 11)
        with pytest.raises(PayloadTooLargeError):
            queue.advance(claim, b"", headers={"h": "x" * 65536})
        queue.advance(claim, b"x" * 10)


def test_a_job_of_many_steps_counts_them(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"")
    for step in range(50):
        claim = claimed(queue)
        assert (claim.job.step, claim.job.attempts) == (step, 1)
        queue.advance(claim, str(step).encode())

    assert stored(queue, job_id).step == 50
