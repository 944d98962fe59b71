"""How long finished bare jobs stay."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from taquba_workflow_sync import JobStatus, Queue, QueueConfig
from taquba_workflow_sync.testing import ManualClock

from .support import claimed, stored, wait_until, working


def test_done_and_dead_jobs_go_when_their_own_time_is_over(tmp_path: Path, clock: ManualClock) -> None:
    config = QueueConfig(keep_done_jobs=10, dead_retention=20)
    with Queue.open(tmp_path / "s", default_config=config, clock=clock) as queue:
        done, dead = queue.enqueue_batch("q", [b"x" * 5000, b""])
        clock.advance(1000)
        queue.ack(claimed(queue))
        queue.dead_letter(claimed(queue), "no")
        clock.advance(9.999)
        assert queue.handle.store.sweep() == 0, "retention counts from the end, not from the enqueue"
        clock.advance(0.001)
        assert queue.handle.store.sweep() == 1
        assert (queue.get_job(done), stored(queue, dead).status) == (None, JobStatus.DEAD)
        clock.advance(10)
        assert queue.handle.store.sweep() == 1
        assert queue.get_job(dead) is None


def test_dead_letters_stay_for_seven_days_by_default(still: Queue, clock: ManualClock) -> None:
    job_id = still.enqueue("q", b"")
    still.dead_letter(claimed(still), "no")
    clock.advance(timedelta(days=7, milliseconds=-1))
    assert still.handle.store.sweep() == 0
    clock.advance(timedelta(milliseconds=1))
    assert still.handle.store.sweep() == 1
    assert still.get_job(job_id) is None


def test_dead_letters_stay_for_good_where_the_configuration_says_so(tmp_path: Path, clock: ManualClock) -> None:
    with Queue.open(tmp_path / "s", default_config=QueueConfig(dead_retention=None), clock=clock) as queue:
        queue.enqueue("q", b"")
        queue.dead_letter(claimed(queue), "no")
        clock.advance(timedelta(days=20 * 365))

        assert queue.handle.store.sweep() == 0


def test_retention_is_frozen_when_the_job_is_put_in(tmp_path: Path, clock: ManualClock) -> None:
    with Queue.open(tmp_path / "s", default_config=QueueConfig(keep_done_jobs=100), clock=clock) as queue:
        job_id = queue.enqueue("q", b"")
    with Queue.open(tmp_path / "s", clock=clock) as queue:
        queue.ack(claimed(queue))
        assert stored(queue, job_id).status is JobStatus.DONE
        clock.advance(100)
        assert queue.handle.store.sweep() == 1


def test_a_worker_sweeps_while_it_works(tmp_path: Path, clock: ManualClock) -> None:
    config = QueueConfig(keep_done_jobs=10)
    with Queue.open(tmp_path / "s", default_config=config, clock=clock) as queue:
        with working(queue, "q", lambda job, claim: None, poll_interval=0.01):
            job_id = queue.enqueue("q", b"")
            wait_until(lambda: queue.stats("q").done == 1)
            clock.advance(10)
            wait_until(lambda: queue.get_job(job_id) is None, "the sweep")


def test_a_sweep_takes_a_bounded_piece_at_a_time(tmp_path: Path, clock: ManualClock) -> None:
    config = QueueConfig(keep_done_jobs=1)
    with Queue.open(tmp_path / "s", durability="relaxed", default_config=config, clock=clock) as queue:
        for job_id in queue.enqueue_batch("q", [b""] * 700):
            queue.cancel(job_id)
        clock.advance(1)

        assert [queue.handle.store.sweep() for _ in range(3)] == [500, 200, 0]
