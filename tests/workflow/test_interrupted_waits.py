"""What a signal handler raises in a caller that waits hits nobody else, while threads that run steps lead the turns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, Step, StepOutcome, Succeed, WorkflowRuntime
from taquba_workflow_sync.errors import ClaimLostError
from tests.interruptions import assert_weathers, inject
from tests.support import PATIENCE, in_thread, wait_until

#: How many steps a call has at least, whatever it meets.
_LEAST = 100
_WAITING = ("queue/waiters.py", "workflow/waiting.py", "taquba_workflow_sync/wakeup.py")
_CLAIMING = ("queue/claiming.py", "queue/waiters.py", "relational/group_commit.py", "embedded/access.py")
#: For a claim that its caller was never told of, and that could not be given back.
_LEASE = 2.0


@contextmanager
def others(call: Callable[[], object]) -> Iterator[None]:
    """Have two threads call it again and again while the block runs; each call must return."""
    is_over = threading.Event()

    def work() -> None:
        while not is_over.wait(0.0005):
            call()

    joins = [in_thread(work) for _ in range(2)]
    try:
        yield
    finally:
        is_over.set()
        for join in joins:
            join()


def at_every_step(call: Callable[[int], int]) -> int:
    """Call with each number of a step, and with a hundred more than any call had; returns how many one had at most.

    A call answers to how many steps it came: how many it has is decided by what others do meanwhile.
    """
    at = most = 0
    while at <= most + 100:
        at += 1
        most = max(most, call(at))
    return most


@pytest.mark.embedded
def test_an_exception_at_any_step_of_a_wait_strands_nobody(queue: Queue) -> None:
    def step(each: Step) -> StepOutcome:
        if each.run_id.startswith("main"):
            wait_until(lambda: waits.is_set() or queue.handle.waiters._looker is not None)
        return Succeed(b"done")

    waits = threading.Event()
    with WorkflowRuntime(queue, step, max_concurrent_steps=4) as runtime:

        def interrupted(at: int) -> int:
            waits.clear()
            handle = runtime.submit(run_id=f"main-{at}")
            steps, outcome = inject(lambda: handle.wait(PATIENCE), at, *_WAITING)
            waits.set()
            assert outcome is None or outcome.result == b"done"
            return steps

        with others(lambda: runtime.submit().wait(PATIENCE)):
            assert at_every_step(interrupted) > _LEAST
        assert runtime.submit().wait(PATIENCE).result == b"done"


@pytest.mark.embedded
def test_an_exception_at_any_step_of_a_claim_that_waits_loses_no_job(queue: Queue) -> None:
    acked: list[str] = []
    sent: list[str] = []

    def take(timeout: float) -> str | None:
        claim = queue.claim_with_wait("q", timeout, lease=_LEASE)
        if claim is None:
            return None
        try:
            queue.ack(claim)
        except ClaimLostError:
            return None  # the lease ran out on a busy machine
        acked.append(claim.job.id)
        return claim.job.id

    def interrupted(at: int) -> int:
        # Attempts are charged where a lease runs out: on a busy machine more than the usual three.
        sent.append(queue.enqueue("q", b"work", max_attempts=1_000))
        return inject(lambda: take(0.002), at, *_CLAIMING)[0]

    with others(lambda: take(0.1)):
        assert at_every_step(interrupted) > _LEAST

        def is_empty() -> bool:
            stats = queue.stats("q")
            return stats.pending == stats.claimed == 0

        wait_until(is_empty, "every job to be taken")
    # An ack that was interrupted may have happened, and nobody was told.
    assert len(acked) == len(set(acked))
    assert set(acked) <= set(sent)
    assert queue.stats("q").done == len(sent)


@pytest.mark.embedded
def test_a_storm_of_interrupted_waits_strands_nobody(tmp_path: Path) -> None:
    """The main thread submits and waits while a handler raises after 50 microseconds to 3 ms; others do it beside."""
    assert_weathers("tests.workflow.wait_storm", tmp_path / "store")
