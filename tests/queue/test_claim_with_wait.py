"""Waiting for a job: woken at once by whatever makes one claimable."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, StoreClosedError
from taquba_workflow_sync.testing import ManualClock

from .support import PATIENCE, START, claimed, in_thread, wait_until


def waiting(queue: Queue) -> bool:
    """Whether a thread waits inside ``claim_with_wait``."""
    return queue.handle.waiters.has_waiters


def test_a_job_that_is_there_is_claimed_without_waiting(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"")

    claim = queue.claim_with_wait("q", 0)

    assert claim is not None and claim.job.id == job_id


@pytest.mark.parametrize("timeout", [0, 0.05, timedelta(milliseconds=50)])
def test_none_comes_back_when_the_time_is_up_and_not_before(queue: Queue, timeout: float | timedelta) -> None:
    began = time.monotonic()

    assert queue.claim_with_wait("q", timeout) is None

    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    assert seconds <= time.monotonic() - began < PATIENCE


def test_an_enqueue_of_this_process_wakes_the_waiter(queue: Queue) -> None:
    join = in_thread(lambda: queue.claim_with_wait("q", PATIENCE))
    wait_until(lambda: waiting(queue))

    job_id = queue.enqueue("q", b"")
    claim = join()

    assert claim is not None and claim.job.id == job_id


def test_the_wake_up_comes_at_once_not_at_the_next_poll(queue: Queue) -> None:
    def latency() -> float:
        join = in_thread(lambda: (queue.claim_with_wait("q", PATIENCE), time.monotonic()))
        wait_until(lambda: waiting(queue))
        at = time.monotonic()
        queue.enqueue("q", b"")
        return join()[1] - at

    assert min(latency() for _ in range(10)) < 0.1


def test_an_enqueue_through_another_handle_wakes_the_waiter(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s") as here, Queue.open(tmp_path / "s") as there:
        join = in_thread(lambda: here.claim_with_wait("q", PATIENCE))
        wait_until(lambda: waiting(here))
        job_id = there.enqueue("q", b"")
        claim = join()

    assert claim is not None and claim.job.id == job_id


def test_a_nack_without_backoff_wakes_the_waiter(queue: Queue) -> None:
    queue.enqueue("q", b"")
    held = claimed(queue)
    join = in_thread(lambda: queue.claim_with_wait("q", PATIENCE))
    wait_until(lambda: waiting(queue))

    queue.nack(held, "again")
    claim = join()

    assert claim is not None and claim.job.attempts == 2


def test_a_requeue_wakes_the_waiter(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"")
    queue.dead_letter(claimed(queue), "no")
    join = in_thread(lambda: queue.claim_with_wait("q", PATIENCE))
    wait_until(lambda: waiting(queue))

    queue.requeue_dead_job(job_id)

    claim = join()
    assert claim is not None and claim.job.id == job_id


def test_advancing_the_clock_to_a_scheduled_job_wakes_the_waiter(still: Queue, clock: ManualClock) -> None:
    job_id = still.enqueue("q", b"", run_at=START + timedelta(days=30))
    join = in_thread(lambda: still.claim_with_wait("q", PATIENCE))
    wait_until(lambda: waiting(still))

    clock.advance(timedelta(days=30))
    claim = join()

    assert claim is not None and claim.job.id == job_id


def test_advancing_the_clock_past_a_bare_lease_wakes_the_waiter(still: Queue, clock: ManualClock) -> None:
    still.enqueue("q", b"")
    claimed(still)
    join = in_thread(lambda: still.claim_with_wait("q", PATIENCE))
    wait_until(lambda: waiting(still))

    clock.advance(30)
    claim = join()

    assert claim is not None and claim.job.attempts == 2


def test_a_job_that_becomes_due_by_the_wall_clock_is_claimed_when_it_is(queue: Queue) -> None:
    due = datetime.now(UTC) + timedelta(milliseconds=200)
    queue.enqueue("q", b"", run_at=due)

    claim = queue.claim_with_wait("q", PATIENCE)

    assert claim is not None and claim.job.claimed_at is not None
    assert claim.job.claimed_at >= due - timedelta(milliseconds=1)


def test_two_waiters_get_one_job_each(queue: Queue) -> None:
    joins = [in_thread(lambda: queue.claim_with_wait("q", PATIENCE)) for _ in range(2)]
    wait_until(lambda: waiting(queue))

    ids = {queue.enqueue("q", b"") for _ in range(2)}

    assert {claim.job.id for claim in (join() for join in joins) if claim is not None} == ids


def test_closing_the_queue_ends_the_wait_with_an_error(queue: Queue) -> None:
    join = in_thread(lambda: queue.claim_with_wait("q", PATIENCE))
    wait_until(lambda: waiting(queue))
    began = time.monotonic()

    queue.close()
    with pytest.raises(StoreClosedError):
        join()

    assert time.monotonic() - began < PATIENCE / 2


def test_the_lease_asked_for_is_given(still: Queue) -> None:
    still.enqueue("q", b"")

    claim = still.claim_with_wait("q", 1, lease=7)

    assert claim is not None and claim.job.lease_expires_at == START + timedelta(seconds=7)
