"""run_worker: the loop of bare queues."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from taquba_workflow_sync import (
    Claim,
    ClaimLostError,
    JobRecord,
    JobStatus,
    Queue,
    QueueConfig,
    Worker,
    run_worker,
)
from taquba_workflow_sync.testing import ManualClock

from .support import PATIENCE, await_event, claimed, counters, in_thread, stored, wait_until, working


class Collector:
    """A worker object that remembers what it was given."""

    def __init__(self) -> None:
        self.jobs: list[JobRecord] = []
        self.claims: list[Claim] = []

    def process(self, job: JobRecord, claim: Claim) -> None:
        self.jobs.append(job)
        self.claims.append(claim)


def test_a_worker_object_gets_every_job_in_order_and_acks_by_returning(queue: Queue) -> None:
    collector = Collector()
    assert isinstance(collector, Worker)
    ids = queue.enqueue_batch("q", [b"1", b"2", b"3"])
    with working(queue, "q", collector):
        wait_until(lambda: counters(queue) == {"done": 3})

    assert [job.id for job in collector.jobs] == ids
    assert [job.payload for job in collector.jobs] == [b"1", b"2", b"3"]
    assert all(job.status is JobStatus.CLAIMED and job.attempts == 1 for job in collector.jobs)


def test_a_plain_function_is_a_worker_too(queue: Queue) -> None:
    seen: list[bytes] = []
    queue.enqueue("q", b"payload")
    with working(queue, "q", lambda job, claim: seen.append(job.payload)):
        wait_until(lambda: counters(queue) == {"done": 1})

    assert seen == [b"payload"]


def test_the_claim_is_of_the_job(queue: Queue) -> None:
    collector = Collector()
    queue.enqueue("q", b"")
    with working(queue, "q", collector):
        wait_until(lambda: counters(queue) == {"done": 1})

    assert collector.claims[0].job == collector.jobs[0]
    with pytest.raises(ClaimLostError):
        queue.ack(collector.claims[0])


def test_an_idle_worker_is_woken_by_an_enqueue_not_by_its_poll(queue: Queue) -> None:
    with working(queue, "q", lambda job, claim: None, poll_interval=3600):
        began = time.monotonic()
        for number in range(1, 6):
            queue.enqueue("q", b"")
            wait_until(lambda number=number: counters(queue) == {"done": number})  # type: ignore[misc]
        assert time.monotonic() - began < PATIENCE


def test_no_more_than_concurrency_jobs_run_at_once_and_as_many_do(queue: Queue) -> None:
    together = threading.Barrier(3)
    lock = threading.Lock()
    running, most = 0, 0

    def worker(job: JobRecord, claim: Claim) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(PATIENCE)
        with lock:
            running -= 1

    queue.enqueue_batch("q", [b""] * 9)
    with working(queue, "q", worker, concurrency=3):
        wait_until(lambda: counters(queue) == {"done": 9})

    assert most == 3


def test_shutdown_finishes_what_runs_and_leaves_the_rest(queue: Queue) -> None:
    shutdown, started, go = threading.Event(), threading.Event(), threading.Event()

    def worker(job: JobRecord, claim: Claim) -> None:
        started.set()
        await_event(go)

    queue.enqueue_batch("q", [b""] * 3)
    join = in_thread(lambda: run_worker(queue, "q", worker, shutdown=shutdown))
    await_event(started)
    shutdown.set()
    wait_until(lambda: all(loop.is_asked_to_stop for loop in queue.handle._loops), "the stop")
    go.set()
    join()

    assert counters(queue) == {"done": 1, "pending": 2}
    assert [job.attempts for job in queue.list_jobs("q").jobs] == [0, 0], "what never started is not charged"


def test_a_shutdown_set_beforehand_returns_at_once_and_claims_nothing_for_long(queue: Queue) -> None:
    shutdown = threading.Event()
    shutdown.set()
    run_worker(queue, "q", lambda job, claim: None, shutdown=shutdown)


def test_a_retry_comes_when_its_backoff_is_over(still: Queue, clock: ManualClock) -> None:
    attempts: list[int] = []

    def worker(job: JobRecord, claim: Claim) -> None:
        attempts.append(job.attempts)
        if job.attempts < 3:
            raise OSError("not yet")

    job_id = still.enqueue("q", b"")
    with working(still, "q", worker):
        for seconds, attempt in ((1, 1), (2, 2)):
            wait_until(lambda attempt=attempt: stored(still, job_id).status is JobStatus.SCHEDULED)  # type: ignore[misc]
            assert len(attempts) == attempt
            clock.advance(seconds)
            wait_until(lambda attempt=attempt: len(attempts) > attempt)  # type: ignore[misc]
        wait_until(lambda: counters(still) == {"done": 1})

    assert attempts == [1, 2, 3]


def test_a_lease_is_renewed_for_as_long_as_the_job_runs(tmp_path: Path) -> None:
    config = QueueConfig(lease_duration=0.3)
    with Queue.open(tmp_path / "s", default_config=config) as queue:
        leases = set()
        go = threading.Event()
        runs: list[int] = []

        def worker(job: JobRecord, claim: Claim) -> None:
            runs.append(job.attempts)
            await_event(go)

        job_id = queue.enqueue("q", b"")
        with working(queue, "q", worker):
            wait_until(lambda: bool(runs))

            def renewed_three_times() -> bool:
                leases.add(stored(queue, job_id).lease_expires_at)
                return len(leases) > 3

            wait_until(renewed_three_times, "three renewals")
            go.set()
            wait_until(lambda: counters(queue) == {"done": 1})

    assert runs == [1]


def test_a_cancel_sets_the_token_of_a_running_job(queue: Queue) -> None:
    told, started = threading.Event(), threading.Event()

    def worker(job: JobRecord, claim: Claim) -> None:
        started.set()
        if claim.cancel_token.wait(PATIENCE):
            told.set()

    job_id = queue.enqueue("q", b"")
    with working(queue, "q", worker):
        await_event(started)
        queue.cancel(job_id)
        await_event(told, "the token")


def test_a_cancel_through_another_handle_sets_the_token_too(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s") as here, Queue.open(tmp_path / "s") as there:
        told, started = threading.Event(), threading.Event()

        def worker(job: JobRecord, claim: Claim) -> None:
            started.set()
            if claim.cancel_token.wait(PATIENCE):
                told.set()

        job_id = here.enqueue("q", b"")
        with working(here, "q", worker):
            await_event(started)
            there.cancel(job_id)
            await_event(told, "the token")


def test_a_worker_that_settles_its_claim_itself_is_not_undone(queue: Queue) -> None:
    def worker(job: JobRecord, claim: Claim) -> None:
        if job.step == 0:
            queue.advance(claim, b"next")

    job_id = queue.enqueue("q", b"")
    with working(queue, "q", worker):
        wait_until(lambda: counters(queue) == {"done": 1})

    assert queue.get_job(job_id) is None


def test_a_worker_may_call_the_queue(queue: Queue) -> None:
    def worker(job: JobRecord, claim: Claim) -> None:
        if job.payload != b"3":
            queue.enqueue("q", str(int(job.payload) + 1).encode())
        queue.stats("q")

    queue.enqueue("q", b"0")
    with working(queue, "q", worker, concurrency=2):
        wait_until(lambda: counters(queue) == {"done": 4})


def test_two_workers_of_one_queue_share_its_jobs(tmp_path: Path) -> None:
    one, two = Collector(), Collector()
    with Queue.open(tmp_path / "s") as here, Queue.open(tmp_path / "s") as there:
        with working(here, "q", one), working(there, "q", two):
            ids = here.enqueue_batch("q", [b""] * 30)
            wait_until(lambda: counters(here) == {"done": 30})

    assert sorted(job.id for job in one.jobs + two.jobs) == sorted(ids)


def test_the_library_creates_no_thread_that_outlives_the_loop(queue: Queue) -> None:
    before = set(threading.enumerate())
    with working(queue, "q", lambda job, claim: None, concurrency=4):
        queue.enqueue("q", b"")
        wait_until(lambda: counters(queue) == {"done": 1})
        new = set(threading.enumerate()) - before
        assert all(thread.name.startswith(("taquba", "test-helper")) for thread in new)
    wait_until(lambda: not (set(threading.enumerate()) - before))


def test_a_claim_lost_to_the_lease_is_not_taken_from_a_running_worker_of_this_process(
    still: Queue, clock: ManualClock
) -> None:
    """A stepping clock expires every lease at once; what runs in this process is never taken back."""
    started, go = threading.Event(), threading.Event()
    attempts: list[int] = []

    def worker(job: JobRecord, claim: Claim) -> None:
        attempts.append(job.attempts)
        started.set()
        await_event(go)

    still.enqueue("q", b"")
    with working(still, "q", worker, concurrency=2):
        await_event(started)
        clock.advance(1_000_000)
        assert still.claim("q") is None
        go.set()
        wait_until(lambda: counters(still) == {"done": 1})

    assert attempts == [1]
    assert still.claim("q") is None


def test_a_bare_claim_beside_a_worker_keeps_its_job(queue: Queue) -> None:
    queue.enqueue("q", b"mine")
    mine = claimed(queue)
    with working(queue, "q", lambda job, claim: None):
        queue.enqueue("q", b"the worker's")
        wait_until(lambda: counters(queue) == {"claimed": 1, "done": 1})
    queue.ack(mine)
