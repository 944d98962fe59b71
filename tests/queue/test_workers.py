"""Queue.workers: who works on a store, as an operator sees it."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta

import pytest

from taquba_workflow_sync import Queue, RunSpec, Step, StoreClosedError, Succeed, WorkerProcess, WorkflowRuntime
from taquba_workflow_sync.testing import ManualClock

from .support import START, await_event, claimed, wait_until, working

LEASE = timedelta(seconds=30)


def test_nobody_works_on_a_store_that_is_only_open(queue: Queue) -> None:
    queue.enqueue("q", b"")
    assert queue.workers() == []


def test_an_idle_worker_is_shown_with_nothing(queue: Queue) -> None:
    before = datetime.now(UTC) - timedelta(hours=1)
    with working(queue, "q", lambda job, claim: None):
        wait_until(queue.workers, "the worker")
        (worker,) = queue.workers()
    assert (worker.pid, worker.alive, worker.running) == (os.getpid(), True, ())
    assert worker.host
    assert worker.since is not None and before < worker.since <= datetime.now(UTC)


def test_what_runs_is_shown_with_where_it_stands(still: Queue, clock: ManualClock) -> None:
    begun, go = threading.Event(), threading.Event()

    def load(step: Step) -> Succeed:
        begun.set()
        await_event(go)
        return Succeed()

    runtime = WorkflowRuntime(still, load, queue_name="etl")
    runtime.submit(RunSpec(run_id="nightly", label="load", step_timeout=5))
    runtime.start()
    try:
        await_event(begun)
        (worker,) = still.workers()
        (job,) = worker.running
        assert (job.queue, job.run_id, job.step, job.label, job.attempt) == ("etl", "nightly", 0, "load", 1)
        status = runtime.status("nightly")
        assert status is not None and job.job_id == status.job_id
        assert (job.claimed_at, job.lease_expires_at) == (START, START + LEASE)
        assert (job.overdue, job.lease_expired) == (False, False)
        clock.advance(5)
        assert [each.overdue for row in still.workers() for each in row.running] == [True]
    finally:
        go.set()
        runtime.stop()
    assert [worker.running for worker in still.workers()] == [()]


def test_a_run_until_idle_that_claims_nothing_is_no_worker(queue: Queue) -> None:
    """One that cron starts each minute would write that it was there, each minute."""
    runtime = WorkflowRuntime(queue, lambda step: Succeed())
    runtime.run_until_idle()
    assert queue.workers() == []
    runtime.submit()
    runtime.run_until_idle()
    assert len(queue.workers()) == 1


def test_a_claim_of_a_caller_is_nobody_s(still: Queue, clock: ManualClock) -> None:
    still.enqueue("q", b"", job_id="j")
    claimed(still, lease=10)
    (worker,) = still.workers()
    assert worker == WorkerProcess(None, None, None, None, worker.running)
    (job,) = worker.running
    assert (job.job_id, job.run_id, job.lease_expires_at) == ("j", None, START + timedelta(seconds=10))
    assert not job.lease_expired
    clock.advance(10)
    assert [each.lease_expired for each in still.workers()[0].running] == [True]


def test_a_closed_queue_says_so(queue: Queue) -> None:
    queue.close()
    with pytest.raises(StoreClosedError):
        queue.workers()
