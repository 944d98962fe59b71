"""A step that says when it is to be tried again: as a failure (``retry_after``), or because it is not yet time."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from taquba_workflow_sync import (
    AttemptOutcome,
    Fail,
    Queue,
    QueueConfig,
    RunOutcome,
    RunState,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    WorkflowRuntime,
)
from taquba_workflow_sync.testing import ManualClock, ScriptedRunner
from tests.support import PATIENCE, wait_until

from .support import STEPS, state


def test_a_transient_error_that_says_when_is_retried_then(still: Queue, clock: ManualClock) -> None:
    runner = ScriptedRunner([StepError.transient("429", retry_after=timedelta(seconds=40)), Succeed()])
    runtime = WorkflowRuntime(still, runner)
    handle = runtime.submit(run_id="r")
    with runtime:
        wait_until(lambda: still.stats(STEPS).scheduled == 1)
    job = still.get_job(handle.first_job_id)
    assert job is not None and job.run_at == clock.now() + timedelta(seconds=40)
    clock.advance(40)
    runtime.run_until_idle(PATIENCE)
    assert (state(runtime, "r"), [step.attempts for step in runner.steps]) == (RunState.SUCCEEDED, [1, 2])


def test_it_is_charged_as_any_failure(still: Queue) -> None:
    runtime = WorkflowRuntime(still, ScriptedRunner([StepError.transient("429", 40)]))
    runtime.submit(run_id="r", max_attempts_per_step=1)
    runtime.run_until_idle(PATIENCE)
    assert state(runtime, "r") is RunState.FAILED


def test_what_is_put_back_is_scheduled_uncharged_at_its_place_and_in_the_history(
    still: Queue, clock: ManualClock
) -> None:
    runner = ScriptedRunner([StepError.put_back(30, "the till is closed"), Succeed(b"done")])
    runtime = WorkflowRuntime(still, runner)
    handle = runtime.submit(run_id="r", max_attempts_per_step=1)
    counts = runtime.run_until_idle(PATIENCE)
    assert (counts.scheduled, state(runtime, "r")) == (1, RunState.PENDING)
    status = runtime.status("r")
    assert status is not None and (status.attempts, status.error, status.current_step) == (0, None, 0)
    job = still.get_job(handle.first_job_id)
    assert job is not None and job.run_at == clock.now() + timedelta(seconds=30)
    (attempt,) = still.attempt_history(handle.first_job_id)
    assert (attempt.outcome, attempt.error) == (AttemptOutcome.PUT_BACK, "the till is closed")
    clock.advance(30)
    runtime.run_until_idle(PATIENCE)
    assert [(step.attempts, step.is_last_attempt) for step in runner.steps] == [(1, True), (1, True)]
    assert state(runtime, "r") is RunState.SUCCEEDED


def test_it_may_be_put_back_as_often_as_it_likes(queue: Queue) -> None:
    runner = ScriptedRunner([*[StepError.put_back(0)] * 50, Succeed()])
    runtime = WorkflowRuntime(queue, runner)
    runtime.submit(run_id="r", max_attempts_per_step=1)
    runtime.run_until_idle(PATIENCE)
    assert (state(runtime, "r"), len(runner.steps)) == (RunState.SUCCEEDED, 51)


def test_it_is_waited_for_as_a_delay_not_as_a_backoff(still: Queue) -> None:
    def runner(step: Step) -> StepOutcome:
        if step.attempts == 1:
            raise OSError("once")
        raise StepError.put_back(3600)

    with Queue.temporary(default_config=QueueConfig(retry_backoff_base=0)) as queue:
        runtime = WorkflowRuntime(queue, runner)
        runtime.submit(run_id="r")
        counts = runtime.run_until_idle(PATIENCE)  # returns, though an attempt was charged before
        assert (counts.steps, counts.scheduled) == (2, 1)


def test_it_keeps_the_memo(still: Queue, clock: ManualClock) -> None:
    def runner(step: Step) -> StepOutcome:
        if step.memo.get("key") is None:
            step.memo.put("key", b"value")
            raise StepError.put_back(5)
        return Succeed(step.memo.get("key") or b"")

    runtime = WorkflowRuntime(still, runner)
    handle = runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    clock.advance(5)
    runtime.run_until_idle(PATIENCE)
    assert handle.result(1) == b"value"


def test_a_requested_cancel_goes_before_it(queue: Queue) -> None:
    def runner(step: Step) -> StepOutcome:
        runtime.cancel("r")
        raise StepError.put_back(3600)

    runtime = WorkflowRuntime(queue, runner)
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    assert state(runtime, "r") is RunState.CANCELLED


def test_a_hook_may_put_its_notification_back(still: Queue, clock: ManualClock) -> None:
    told: list[RunOutcome] = []

    def hook(outcome: RunOutcome) -> None:
        told.append(outcome)
        if len(told) == 1:
            raise StepError.put_back(5)

    runtime = WorkflowRuntime(still, lambda step: Fail("f"), hook)
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    assert (len(told), still.stats(f"{STEPS}.terminal").scheduled) == (1, 1)
    clock.advance(5)
    runtime.run_until_idle(PATIENCE)
    assert len(told) == 2


@pytest.mark.parametrize("delay", [0, 0.5, 3, timedelta(minutes=2), 10**400])
def test_delays_are_durations(delay: float | timedelta) -> None:
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    assert StepError.put_back(delay).delay == (seconds if seconds < 10**9 else 100 * 366 * 24 * 3600)
    assert not StepError.put_back(delay).is_permanent


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: StepError.put_back(-1), ValueError, "delay is -1"),
        (lambda: StepError.put_back(float("inf")), ValueError, "delay is inf"),
        (lambda: StepError.put_back(float("nan")), ValueError, "delay is nan"),
        (lambda: StepError.put_back("1"), TypeError, "delay must be seconds"),  # type: ignore[arg-type]
        (lambda: StepError.put_back(1, 5), TypeError, "message must be a str"),  # type: ignore[arg-type]
        (lambda: StepError.transient("m", -1), ValueError, "retry_after is -1"),
        (lambda: StepError.transient("m", True), TypeError, "retry_after must be seconds"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize("error", [StepError.put_back(5, "m"), StepError.transient("m", 2), StepError.transient("m")])
def test_they_can_be_pickled(error: StepError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (again.message, again.kind, again.retry_after, again.delay) == (
        error.message, error.kind, error.retry_after, error.delay,
    )  # fmt: skip
