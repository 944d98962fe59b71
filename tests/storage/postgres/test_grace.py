"""A run until idle and those who vanished: it waits until they are known to be dead, and does their work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taquba_workflow_sync import Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.postgres import observing
from taquba_workflow_sync.storage.postgres.address import parsed
from taquba_workflow_sync.storage.postgres.store import PostgresStore
from taquba_workflow_sync.testing import ManualClock
from tests.postgres import store_url


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    monkeypatch.setattr(observing, "AFTER_START_S", 0.0)
    with Queue.open(store_url("grace")) as queue:
        yield queue


def _succeed(step: Step) -> StepOutcome:
    return Succeed(str(step.attempts).encode())


def _vanish(store: PostgresStore) -> None:
    """End as a killed process does: its sessions are gone, and nothing is said."""
    liveness = store._life._liveness
    liveness.be_quiet(5)
    assert liveness._session is not None
    liveness._session.close()
    liveness._session = None


def test_a_run_until_idle_waits_out_the_grace_of_who_vanished(queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(RunSpec(run_id="r"))
    other = PostgresStore(parsed(store_url("grace")))
    (lane,) = other.counts()
    _, (held,) = other.settle_and_claim((), [ClaimRequest((LaneClaim(lane, 3_600_000),), 1)])
    assert held.run_id == "r"
    _vanish(other)
    try:
        counts = WorkflowRuntime(queue, _succeed).run_until_idle(30)
        assert (counts.succeeded, client.wait("r", timeout=1).result) == (1, b"2")
    finally:
        other.close()


def test_a_clock_of_the_tests_own_hurries_nobody(queue: Queue) -> None:
    """The grace is the observer's own, by its monotonic clock: a clock that is moved kills no one."""
    clock = ManualClock()
    url = store_url("grace")
    with Queue.open(url, clock=clock) as moved:
        other = PostgresStore(parsed(url))
        clock.advance(3_600)
        moved.handle.store.abandoned_claims()
        assert moved.handle.store._life.is_alive(other._life.owner_id, 0.0) is True  # type: ignore[attr-defined]
        other.close()
