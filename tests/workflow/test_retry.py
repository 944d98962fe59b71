"""Retrying a failed run (DESIGN 4 and 6.6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from taquba_workflow_sync import (
    Cancel,
    Continue,
    Fail,
    IfFinished,
    InvalidStateError,
    Queue,
    RunNotFoundError,
    RunState,
    StepError,
    Succeed,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.testing import ManualClock, ScriptedRunner
from tests.queue.support import PATIENCE, counters, stored

from .support import STEPS, ended, state


@pytest.mark.parametrize("failure", [Fail("no"), StepError.permanent("no")], ids=["verdict", "dead letter"])
def test_a_failed_run_goes_on_at_the_step_that_failed(queue: Queue, failure: object) -> None:
    runner = ScriptedRunner([Continue(b"1" * 5000), failure, Continue(b"2"), Succeed(b"end")])  # type: ignore[list-item]
    runtime = WorkflowRuntime(queue, runner)
    handle = runtime.submit(headers={"h": "1"})
    runtime.run_until_idle(PATIENCE)
    assert ended(runtime, handle.run_id).error == "no"

    runtime.retry(handle.run_id)

    status = handle.status()
    assert status is not None
    assert (status.state, status.current_step, status.attempts, status.error, status.finished_at) == (
        RunState.PENDING, 1, 0, None, None,
    )  # fmt: skip
    assert runtime.outcome(handle.run_id) is None
    runtime.run_until_idle(PATIENCE)
    assert [(step.step_number, step.attempts, step.payload) for step in runner.steps[1:]] == [
        (1, 1, b"1" * 5000), (1, 1, b"1" * 5000), (2, 1, b"2"),
    ]  # fmt: skip
    assert runner.steps[2].headers == {"h": "1"}
    assert handle.result(0) == b"end", "the handle is bound to the job, which is the same"


def test_a_retried_run_has_all_its_attempts_again(queue: Queue) -> None:
    runner = ScriptedRunner([OSError()] * 5 + [Succeed()])
    runtime = WorkflowRuntime(queue, runner)
    handle = runtime.submit(max_attempts_per_step=3)
    runtime.run_until_idle(PATIENCE)
    runtime.retry(handle.run_id)
    runtime.run_until_idle(PATIENCE)

    assert [step.attempts for step in runner.steps] == [1, 2, 3, 1, 2, 3]
    assert ended(runtime, handle.run_id).status is TerminalStatus.SUCCEEDED
    assert len(queue.attempt_history(handle.first_job_id)) == 6


def test_a_retry_needs_no_runner(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, ScriptedRunner([Fail("no"), Succeed()]))
    handle = runtime.submit()
    runtime.run_until_idle(PATIENCE)
    WorkflowClient(queue).retry(handle.run_id)

    assert runtime.run_until_idle(PATIENCE).succeeded == 1


def test_a_retried_run_stands_at_the_back_of_its_priority(queue: Queue) -> None:
    order: list[str] = []

    def runner(step):  # type: ignore[no-untyped-def]
        order.append(step.run_id)
        return Fail("no") if order == ["a"] else Succeed()

    runtime = WorkflowRuntime(queue, runner, max_concurrent_steps=1)
    runtime.submit(run_id="a")
    runtime.run_until_idle(PATIENCE)
    runtime.submit(run_id="b")
    runtime.retry("a")
    runtime.run_until_idle(PATIENCE)

    assert order == ["a", "b", "a"]


@pytest.mark.parametrize("script", [[Succeed()], [Cancel("c")]])
def test_only_a_failed_run_is_retried(queue: Queue, script: list[object]) -> None:
    runtime = WorkflowRuntime(queue, ScriptedRunner(script))  # type: ignore[arg-type]
    handle = runtime.submit()
    runtime.run_until_idle(PATIENCE)
    before = handle.status()

    with pytest.raises(InvalidStateError):
        runtime.retry(handle.run_id)
    assert handle.status() == before


@pytest.mark.parametrize("stage", ["pending", "claimed", "cancelling"])
def test_an_active_run_is_not_retried(queue: Queue, stage: str) -> None:
    client = WorkflowClient(queue)
    handle = client.submit(run_id="r")
    if stage != "pending":
        queue.claim(STEPS)
    if stage == "cancelling":
        handle.cancel()

    with pytest.raises(InvalidStateError, match="'r'"):
        client.retry("r")


def test_an_unknown_run_is_not_found(queue: Queue) -> None:
    with pytest.raises(RunNotFoundError, match="nobody"):
        WorkflowClient(queue).retry("nobody")


def test_a_run_that_is_kept_no_longer_is_not_found(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, ScriptedRunner([Fail("no")]), keep_runs=10)
    handle = runtime.submit()
    runtime.run_until_idle(PATIENCE)
    clock.advance(10)

    with pytest.raises(RunNotFoundError):
        runtime.retry(handle.run_id)


def test_the_old_life_of_a_name_cannot_be_requeued_beside_an_active_one(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, ScriptedRunner([StepError.permanent("no")]))
    old = runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    new = runtime.submit(run_id="r", if_finished=IfFinished.RERUN_FAILED)

    with pytest.raises(InvalidStateError, match="active"):
        queue.requeue_dead_job(old.first_job_id)

    assert state(runtime, "r") is RunState.PENDING
    assert (old.status().state, new.status().state) == (RunState.FAILED, RunState.PENDING)  # type: ignore[union-attr]


def test_requeueing_the_dead_letter_of_a_run_resumes_it(queue: Queue) -> None:
    runner = ScriptedRunner([Continue(b"1"), StepError.permanent("no"), Succeed(b"end")])
    runtime = WorkflowRuntime(queue, runner)
    handle = runtime.submit()
    runtime.run_until_idle(PATIENCE)
    queue.requeue_dead_job(handle.first_job_id)
    runtime.run_until_idle(PATIENCE)

    outcome = handle.wait(0)
    assert (outcome.result, outcome.termination) == (b"end", 2)
    assert [step.payload for step in runner.steps] == [b"", b"1", b"1"]


def test_a_failed_verdict_is_no_dead_letter_to_requeue(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, ScriptedRunner([Fail("no")]))
    handle = runtime.submit()
    runtime.run_until_idle(PATIENCE)

    with pytest.raises(InvalidStateError):
        queue.requeue_dead_job(handle.first_job_id)


def test_a_retry_survives_a_reopen_and_is_not_swept_by_its_first_end(tmp_path: Path, clock: ManualClock) -> None:
    with Queue.open(tmp_path / "s", clock=clock) as queue:
        runtime = WorkflowRuntime(queue, ScriptedRunner([Fail("no")]), keep_runs=100)
        handle = runtime.submit(run_id="r")
        runtime.run_until_idle(PATIENCE)
        runtime.retry("r")
    clock.advance(1000)
    with Queue.open(tmp_path / "s", clock=clock) as queue:
        queue.handle.store.sweep()
        assert stored(queue, handle.first_job_id).step == 0
        assert WorkflowRuntime(queue, ScriptedRunner([Succeed()])).run_until_idle(PATIENCE).succeeded == 1


def test_counters_follow_a_retry(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, ScriptedRunner([StepError.permanent("no"), Fail("no")]))
    handle = runtime.submit()
    runtime.run_until_idle(PATIENCE)
    assert counters(queue, STEPS) == {"dead": 1}
    runtime.retry(handle.run_id)
    assert counters(queue, STEPS) == {"pending": 1}
    runtime.run_until_idle(PATIENCE)
    assert counters(queue, STEPS) == {"done": 1}
    runtime.retry(handle.run_id)
    assert counters(queue, STEPS)["pending"] == 1
