"""The ends of a claim: each happens once, and what came before it decides the rest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest

from taquba_workflow_sync import Claim, ClaimLostError, JobStatus, Queue, QueueConfig
from taquba_workflow_sync.testing import ManualClock

from .support import START, claimed, counters, stored

ENDS: dict[str, Callable[[Queue, Claim], object]] = {
    "ack": lambda queue, claim: queue.ack(claim),
    "nack": lambda queue, claim: queue.nack(claim, "no"),
    "dead_letter": lambda queue, claim: queue.dead_letter(claim, "never"),
    "advance": lambda queue, claim: queue.advance(claim, b"next"),
}


def test_an_acked_job_leaves_no_row_by_default(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"x" * 5000)
    queue.ack(claimed(queue))

    assert queue.get_job(job_id) is None
    assert queue.attempt_history(job_id) == []
    assert queue.list_jobs("q").jobs == []
    assert counters(queue) == {"done": 1}


def test_an_acked_job_is_kept_where_the_configuration_says_so(tmp_path: Path, clock: ManualClock) -> None:
    with Queue.open(tmp_path / "s", default_config=QueueConfig(keep_done_jobs=60), clock=clock) as queue:
        job_id = queue.enqueue("q", b"payload")
        claim = claimed(queue)
        clock.advance(5)
        queue.ack(claim)
        job = stored(queue, job_id)

    assert (job.status, job.payload, job.failed_at) == (JobStatus.DONE, b"payload", None)
    assert job.completed_at == START + timedelta(seconds=5)
    assert job.lease_expires_at is None


def test_a_dead_letter_keeps_its_error_and_payload(still: Queue) -> None:
    job_id = still.enqueue("q", b"payload", headers={"h": "1"})
    still.dead_letter(claimed(still), "the reason")

    job = stored(still, job_id)
    assert (job.status, job.last_error, job.failed_at) == (JobStatus.DEAD, "the reason", START)
    assert (job.payload, job.headers, job.completed_at) == (b"payload", {"h": "1"}, None)
    assert counters(still) == {"dead": 1}


@pytest.mark.parametrize("max_attempts", [1, 2, 5])
def test_max_attempts_means_exactly_that_many(queue: Queue, max_attempts: int) -> None:
    job_id = queue.enqueue("q", b"", max_attempts=max_attempts)
    for attempt in range(1, max_attempts + 1):
        claim = claimed(queue)
        assert claim.job.attempts == attempt
        queue.nack(claim, f"attempt {attempt}")

    assert queue.claim("q") is None
    assert (stored(queue, job_id).status, stored(queue, job_id).last_error) == (
        JobStatus.DEAD,
        f"attempt {max_attempts}",
    )


def test_a_nacked_job_keeps_its_place_in_line(queue: Queue) -> None:
    first, second = queue.enqueue_batch("q", [b"1", b"2"])
    queue.nack(claimed(queue), "again")

    assert [claim.job.id for claim in queue.claim_batch("q", 2)] == [first, second]


def test_a_nacked_job_carries_its_last_error(queue: Queue) -> None:
    queue.enqueue("q", b"")
    queue.nack(claimed(queue), "what went wrong")

    assert claimed(queue).job.last_error == "what went wrong"


@pytest.mark.parametrize(("first", "second"), list(product(ENDS, ENDS)))
def test_a_claim_ends_once(queue: Queue, first: str, second: str) -> None:
    job_id = queue.enqueue("q", b"")
    claim = claimed(queue)
    ENDS[first](queue, claim)
    before = (queue.get_job(job_id), queue.stats("q"), queue.attempt_history(job_id))

    with pytest.raises(ClaimLostError):
        ENDS[second](queue, claim)

    assert (queue.get_job(job_id), queue.stats("q"), queue.attempt_history(job_id)) == before


@pytest.mark.parametrize("end", ENDS)
def test_a_lost_claim_cannot_end_its_successor(still: Queue, clock: ManualClock, end: str) -> None:
    job_id = still.enqueue("q", b"")
    lost = claimed(still)
    clock.advance(60)
    held = claimed(still)

    with pytest.raises(ClaimLostError):
        ENDS[end](still, lost)

    assert stored(still, job_id) == held.job
    still.ack(held)


@pytest.mark.parametrize("end", ENDS)
def test_a_claim_ends_only_the_job_it_is_of(queue: Queue, end: str) -> None:
    """A claim put together from another's token is refused: the fence looks at both."""
    queue.enqueue_batch("q", [b"", b""])
    one, two = queue.claim_batch("q", 2)

    with pytest.raises(ClaimLostError):
        ENDS[end](queue, Claim(one.job, two.token, one.cancel_token))
    with pytest.raises(ClaimLostError):
        ENDS[end](queue, Claim(one.job, "made-up", one.cancel_token))

    assert counters(queue) == {"claimed": 2}


def test_a_claim_settles_through_another_handle(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s") as one, Queue.open(tmp_path / "s") as two:
        one.enqueue("q", b"")
        claim = claimed(one)
        two.ack(claim)

        assert counters(one) == {"done": 1}


def test_an_error_text_of_any_length_is_stored_with_a_bound(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"")
    queue.dead_letter(claimed(queue), "x" * 1_000_000)

    error = stored(queue, job_id).last_error
    assert error is not None and error.startswith("x" * 1000) and len(error) < 20_000


def test_the_claims_own_copy_of_the_record_decides_nothing(queue: Queue) -> None:
    """A settlement is built on the stored row: a cancel that came after the claim is not undone by its nack."""
    job_id = queue.enqueue("q", b"", max_attempts=5)
    claim = claimed(queue)
    queue.cancel(job_id)
    assert claim.job.cancel_requested is False

    queue.nack(claim, "again")

    assert stored(queue, job_id).cancel_requested is True
