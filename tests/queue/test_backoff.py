"""How long a retry waits."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from taquba_workflow_sync import JobStatus, Queue, QueueConfig
from taquba_workflow_sync.queue.policy import backoff_ms
from taquba_workflow_sync.testing import ManualClock

from .support import START, claimed, stored


@pytest.mark.parametrize(
    ("base", "most", "attempts", "expected"),
    [
        (1.0, 300.0, 1, 1_000),
        (1.0, 300.0, 2, 2_000),
        (1.0, 300.0, 3, 4_000),
        (1.0, 300.0, 9, 256_000),
        (1.0, 300.0, 10, 300_000),
        (1.0, 300.0, 2**31 - 1, 300_000),
        (0, 300.0, 5, 0),
        (10.0, 5.0, 1, 5_000),
        (0.1, 300.0, 1, 100),
        (timedelta(minutes=1), timedelta(hours=1), 3, 240_000),
        (1.0, 0, 3, 0),
    ],
)
def test_the_backoff_doubles_up_to_its_maximum(
    base: float | timedelta, most: float | timedelta, attempts: int, expected: int
) -> None:
    config = QueueConfig(retry_backoff_base=base, retry_backoff_max=most)

    assert backoff_ms(config, attempts) == expected


@pytest.mark.parametrize(("drawn", "expected"), [(0.0, 2_000), (0.5, 3_000), (1.0, 4_000)])
def test_jitter_takes_between_half_and_all_of_it(drawn: float, expected: int) -> None:
    assert backoff_ms(QueueConfig(retry_jitter=True), 3, lambda: drawn) == expected


def test_jitter_spreads(tmp_path: Path, clock: ManualClock) -> None:
    config = QueueConfig(retry_jitter=True, retry_backoff_base=100.0)
    with Queue.open(tmp_path / "s", default_config=config, clock=clock, durability="relaxed") as queue:
        ids = queue.enqueue_batch("q", [b""] * 40)
        for claim in queue.claim_batch("q", 40):
            queue.nack(claim, "again")
        dues = [stored(queue, job_id).run_at for job_id in ids]

    assert len(set(dues)) > 10
    assert all(due and START + timedelta(seconds=50) <= due <= START + timedelta(seconds=100) for due in dues)


def test_a_nacked_job_waits_exactly_its_backoff(still: Queue, clock: ManualClock) -> None:
    job_id = still.enqueue("q", b"", max_attempts=4)
    for seconds in (1, 2, 4):
        still.nack(claimed(still), "again")
        job = stored(still, job_id)
        assert (job.status, job.run_at) == (JobStatus.SCHEDULED, clock.now() + timedelta(seconds=seconds))
        clock.advance(seconds - 0.001)
        assert still.claim("q") is None
        clock.advance(0.001)
    still.nack(claimed(still), "the last")
    assert stored(still, job_id).status is JobStatus.DEAD


def test_a_backoff_of_nothing_means_at_once(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"")
    queue.nack(claimed(queue), "again")

    assert stored(queue, job_id).status is JobStatus.PENDING
    assert claimed(queue).job.attempts == 2


def test_a_retry_that_is_due_stands_at_its_old_place(still: Queue, clock: ManualClock) -> None:
    first = still.enqueue("q", b"")
    still.nack(claimed(still), "again")
    second = still.enqueue("q", b"")
    clock.advance(1)

    assert [claim.job.id for claim in still.claim_batch("q", 2)] == [first, second]


def test_a_nack_counts_from_when_it_is_made_not_from_the_claim(still: Queue, clock: ManualClock) -> None:
    job_id = still.enqueue("q", b"")
    claim = claimed(still)
    clock.advance(20)
    still.nack(claim, "again")

    assert stored(still, job_id).run_at == START + timedelta(seconds=21)
