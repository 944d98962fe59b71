"""Waiters are woken by commits made elsewhere, and not only by looking again after a while."""

from __future__ import annotations

import pytest

from taquba_workflow_sync import Queue, Succeed, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.queue import claiming, waiters
from taquba_workflow_sync.workflow import waiting
from tests.queue.support import PATIENCE, in_thread, wait_until

_FOR_EVER = 1e6


@pytest.fixture(autouse=True)
def _nobody_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_LONGEST_WAIT", _FOR_EVER)
    monkeypatch.setattr(waiters, "_TRUST", _FOR_EVER)
    monkeypatch.setattr(claiming, "_LOOK_INTERVAL", _FOR_EVER)


@pytest.fixture
def elsewhere(queue: Queue) -> Queue:
    """Another handle of the same store: its commits are announced to the first by the store alone."""
    return Queue.open(queue.path, durability="relaxed")


@pytest.mark.parametrize("waiters", [1, 8])
def test_a_wait_is_woken_by_the_commit_of_another_handle(queue: Queue, elsewhere: Queue, waiters: int) -> None:
    handle = WorkflowClient(queue).submit()
    joins = [in_thread(lambda: handle.wait(PATIENCE * 10)) for _ in range(waiters)]
    wait_until(lambda: queue.handle.waiters.has_waiters)
    with elsewhere:
        WorkflowRuntime(elsewhere, lambda step: Succeed(b"done")).run_until_idle(PATIENCE)
        assert [join().result for join in joins] == [b"done"] * waiters


def test_a_claim_with_wait_is_woken_by_the_commit_of_another_handle(queue: Queue, elsewhere: Queue) -> None:
    join = in_thread(lambda: queue.claim_with_wait("q", PATIENCE * 10))
    wait_until(lambda: queue.handle.waiters.has_waiters)
    with elsewhere:
        job_id = elsewhere.enqueue("q", b"")
        claim = join()
    assert claim is not None and claim.job.id == job_id


def test_a_claim_with_wait_is_woken_by_an_enqueue_of_its_own_handle(queue: Queue) -> None:
    join = in_thread(lambda: queue.claim_with_wait("q", PATIENCE * 10))
    wait_until(lambda: queue.handle.waiters.has_waiters)
    job_id = queue.enqueue("q", b"")
    claim = join()
    assert claim is not None and claim.job.id == job_id
