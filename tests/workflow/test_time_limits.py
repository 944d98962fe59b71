"""Time limits of runs and steps: a sentence of FEATURES.md section 7 each."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from taquba_workflow_sync import (
    AttemptOutcome,
    Cancel,
    Continue,
    ContinueAfter,
    Fail,
    Queue,
    QueueConfig,
    RunFailedError,
    RunSpec,
    RunState,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.storage.port.settlement import Release, Settlement
from taquba_workflow_sync.testing import ManualClock, RecordingHook
from tests.support import PATIENCE, await_event, wait_until

from .support import STEPS, Gate, echo, ended, state

MINUTE = timedelta(minutes=1)


@contextmanager
def inside(queue: Queue, gate: Gate, **runtime: Any) -> Iterator[WorkflowRuntime]:
    """A started runtime whose step is let go at the end, whatever happens."""
    with WorkflowRuntime(queue, gate, **runtime) as running:
        try:
            yield running
        finally:
            gate.go.set()


def raising(error: BaseException) -> Callable[[Step], StepOutcome]:
    def then(step: Step) -> StepOutcome:
        raise error

    return then


#: What a step may come to, but for its own ``Cancel``.
ENDS: dict[str, Callable[[Step], StepOutcome]] = {
    "succeed": lambda step: Succeed(b"done"),
    "fail": lambda step: Fail("verdict"),
    "continue": lambda step: Continue(b"next"),
    "continue after": lambda step: ContinueAfter(b"next", 5),
    "transient": raising(StepError.transient("t")),
    "permanent": raising(StepError.permanent("p")),
    "put back": raising(StepError.put_back(5, "later")),
    "exception": raising(OSError("boom")),
}


# The deadline


@pytest.mark.parametrize("kind", ["datetime", "timedelta"])
def test_a_run_that_waits_past_its_deadline_ends_as_failed(still: Queue, clock: ManualClock, kind: str) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(still, echo, hook)
    deadline = clock.now() + MINUTE if kind == "datetime" else MINUTE
    handle = runtime.submit(run_id="r", deadline=deadline, run_at=clock.now() + timedelta(seconds=59))
    if kind == "datetime":
        clock.advance(60)
    else:
        clock.advance(59 + 60)  # counted from run_at
    runtime.run_until_idle(PATIENCE)
    status = runtime.status("r")
    assert status is not None and status.state is RunState.FAILED
    assert status.error is not None and status.error.startswith("RunDeadlineExceeded: ")
    (outcome,) = hook.outcomes
    assert (outcome.status, outcome.error) == (TerminalStatus.FAILED, status.error)
    assert still.stats(STEPS).dead == 1
    with pytest.raises(RunFailedError, match="RunDeadlineExceeded"):
        handle.result(1)


def test_a_run_that_ends_before_its_deadline_ends_as_it_says(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, echo)
    runtime.submit(run_id="r", deadline=MINUTE)
    runtime.run_until_idle(PATIENCE)
    clock.advance(3600)
    assert state(runtime, "r") is RunState.SUCCEEDED


def test_a_timedelta_counts_from_run_at_where_that_is_later(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, echo)
    runtime.submit(run_id="r", deadline=MINUTE, run_at=clock.now() + timedelta(hours=1))
    clock.advance(3600)
    runtime.run_until_idle(PATIENCE)
    assert state(runtime, "r") is RunState.SUCCEEDED


def test_a_run_that_waits_between_steps_ends_at_its_deadline(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, lambda step: ContinueAfter(b"", 3600))
    runtime.submit(run_id="r", deadline=MINUTE)
    runtime.run_until_idle(PATIENCE)
    clock.advance(60)
    counts = runtime.run_until_idle(PATIENCE)
    assert (counts.steps, state(runtime, "r")) == (0, RunState.FAILED)


def test_an_idle_worker_ends_what_waits_in_time(queue: Queue) -> None:
    with WorkflowRuntime(queue, echo, poll_interval=3600) as runtime:
        later = datetime.now(UTC) + timedelta(hours=1)
        runtime.submit(run_id="r", run_at=later, deadline=datetime.now(UTC) + timedelta(seconds=0.3))
        assert "RunDeadlineExceeded" in str(ended(runtime, "r").error)


def test_a_worker_with_no_thread_free_does_so_as_well(still: Queue, clock: ManualClock) -> None:
    gate = Gate()
    with inside(still, gate, max_concurrent_steps=1) as runtime:
        runtime.submit(run_id="busy")
        await_event(gate.started)
        runtime.submit(run_id="waits", deadline=MINUTE)
        runtime.submit(run_id="late", expires_after=30)
        clock.advance(60)
        assert ended(runtime, "waits").status is TerminalStatus.FAILED
        assert ended(runtime, "late").status is TerminalStatus.CANCELLED
        assert state(runtime, "busy") is RunState.RUNNING


@pytest.mark.parametrize("name", ENDS)
def test_a_running_one_gets_its_token_set_and_ends_as_failed_whatever_it_returned(
    still: Queue, clock: ManualClock, name: str
) -> None:
    gate = Gate(ENDS[name])
    with inside(still, gate) as runtime:
        runtime.submit(run_id="r", deadline=MINUTE)
        await_event(gate.started)
        (step,) = gate.steps
        assert (step.cancel_token.is_set(), step.cancel_cause) == (False, None)
        clock.advance(60)
        await_event(step.cancel_token)
        assert step.cancel_cause == "deadline"
        other = WorkflowClient(still)
        assert state(other, "r") is RunState.CANCELLING
        wait_until(lambda: [each.run_id for each in other.list_runs(RunState.CANCELLING).runs] == ["r"])
        gate.go.set()
        outcome = ended(runtime, "r")
        assert outcome.status is TerminalStatus.FAILED
        assert outcome.error is not None and outcome.error.startswith("RunDeadlineExceeded: ")
        assert len(gate.steps) == 1


def test_the_token_of_a_deadline_is_set_though_nothing_is_claimed_or_committed(queue: Queue) -> None:
    def runner(step: Step) -> StepOutcome:
        await_event(step.cancel_token)
        assert step.cancel_cause == "deadline"
        return Succeed()

    with WorkflowRuntime(queue, runner, max_concurrent_steps=1) as runtime:
        runtime.submit(run_id="r", deadline=timedelta(seconds=0.3))
        assert "RunDeadlineExceeded" in str(ended(runtime, "r").error)


def test_a_step_that_returns_too_late_by_the_stores_clock_has_passed_the_deadline(
    still: Queue, clock: ManualClock
) -> None:
    def runner(step: Step) -> StepOutcome:
        clock.advance(60)  # and nobody has told the step yet
        return Succeed()

    runtime = WorkflowRuntime(still, runner)
    runtime.submit(run_id="r", deadline=MINUTE)
    counts = runtime.run_until_idle(PATIENCE)
    assert (counts.failed, state(runtime, "r")) == (1, RunState.FAILED)


def test_a_retry_renews_a_timedelta(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, echo)
    runtime.submit(run_id="r", deadline=MINUTE)
    for _ in range(2):
        clock.advance(60)
        runtime.run_until_idle(PATIENCE)
        assert state(runtime, "r") is RunState.FAILED
        runtime.retry("r")
    runtime.run_until_idle(PATIENCE)
    assert state(runtime, "r") is RunState.SUCCEEDED


def test_a_retry_drops_a_datetime(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, echo)
    runtime.submit(run_id="r", deadline=clock.now() + MINUTE)
    clock.advance(60)
    runtime.run_until_idle(PATIENCE)
    runtime.retry("r")
    clock.advance(3600)
    runtime.run_until_idle(PATIENCE)
    assert state(runtime, "r") is RunState.SUCCEEDED


def test_a_deadline_that_has_passed_already_may_be_submitted(still: Queue, clock: ManualClock) -> None:
    spec = RunSpec(run_id="r", deadline=clock.now() - MINUTE)
    runtime = WorkflowRuntime(still, echo)
    assert runtime.submit(spec).newly_submitted
    assert not runtime.submit(spec).newly_submitted
    counts = runtime.run_until_idle(PATIENCE)
    assert (counts.steps, state(runtime, "r")) == (0, RunState.FAILED)


@pytest.mark.parametrize(("limit", "into"), [("deadline", RunState.FAILED), ("expires_after", RunState.CANCELLED)])
def test_no_run_is_run_late_however_many_are(still: Queue, clock: ManualClock, limit: str, into: RunState) -> None:
    runtime = WorkflowRuntime(still, echo)
    fields: dict[str, Any] = {limit: MINUTE}
    runtime.submit_many([RunSpec(**fields) for _ in range(503)])  # three more than end in one transaction
    clock.advance(60)
    counts = runtime.run_until_idle(PATIENCE)
    assert counts.steps == 0
    assert len(runtime.list_runs(into, limit=1000).runs) == 503


def test_a_repeated_submit_leaves_the_limits_as_they_are(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, echo)
    runtime.submit(run_id="r", deadline=MINUTE)
    runtime.submit(run_id="r", deadline=timedelta(hours=1))
    clock.advance(60)
    runtime.run_until_idle(PATIENCE)
    assert state(runtime, "r") is RunState.FAILED


def test_run_until_idle_waits_for_an_end_as_for_anything_due(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo)
    later = datetime.now(UTC) + timedelta(hours=1)
    runtime.submit(run_id="r", run_at=later, deadline=datetime.now(UTC) + timedelta(seconds=0.3))
    runtime.run_until_idle(PATIENCE)
    assert state(runtime, "r") is RunState.PENDING
    runtime.run_until_idle(PATIENCE, wait_for_scheduled=10)
    assert state(runtime, "r") is RunState.FAILED


def test_a_stop_while_a_late_step_runs_ends_it_as_failed(still: Queue, clock: ManualClock) -> None:
    gate = Gate()
    with inside(still, gate, shutdown_grace=None) as runtime:
        runtime.submit(run_id="r", deadline=MINUTE)
        await_event(gate.started)
        clock.advance(60)
        await_event(gate.steps[0].cancel_token)
    assert state(WorkflowClient(still), "r") is RunState.FAILED


# The step timeout


def test_a_step_past_its_timeout_gets_its_token_set_by_its_process(still: Queue, clock: ManualClock) -> None:
    gate = Gate()
    with inside(still, gate) as runtime:
        runtime.submit(run_id="r", step_timeout=MINUTE)
        await_event(gate.started)
        clock.advance(60)
        await_event(gate.steps[0].cancel_token)
        assert gate.steps[0].cancel_cause == "step timeout"
        assert state(runtime, "r") is RunState.RUNNING


@pytest.mark.parametrize(("name", "is_last"), list(product(ENDS, [False, True])))
def test_whatever_it_comes_to_then_counts_as_a_transient_failure(
    still: Queue, clock: ManualClock, name: str, is_last: bool
) -> None:
    gate = Gate(ENDS[name])
    with inside(still, gate) as runtime:
        handle = runtime.submit(run_id="r", step_timeout=60, max_attempts_per_step=1 if is_last else 3)
        await_event(gate.started)
        clock.advance(60)
        await_event(gate.steps[0].cancel_token)
        gate.go.set()
        wait_until(lambda: state(runtime, "r") is not RunState.RUNNING)
        status = runtime.status("r")
        assert status is not None
        assert (status.state, status.current_step) == (RunState.FAILED if is_last else RunState.PENDING, 0)
        assert status.error is not None and status.error.startswith("StepTimeout: ")
        (attempt,) = still.attempt_history(handle.first_job_id)
        assert attempt.outcome is (AttemptOutcome.DEAD if is_last else AttemptOutcome.RETRIED)


def test_what_it_raised_is_told_too(still: Queue, clock: ManualClock) -> None:
    def runner(step: Step) -> StepOutcome:
        clock.advance(60)
        raise OSError("boom")

    runtime = WorkflowRuntime(still, runner)
    runtime.submit(run_id="r", step_timeout=60, max_attempts_per_step=1)
    runtime.run_until_idle(PATIENCE)
    status = runtime.status("r")
    assert status is not None and status.error == (
        "StepTimeout: the step ran for longer than its step timeout, 60 s; at its end it failed: OSError: boom"
    )


def test_a_step_that_overruns_keeps_its_claim_and_is_never_run_beside_itself(still: Queue, clock: ManualClock) -> None:
    gate = Gate()
    with inside(still, gate, max_concurrent_steps=4) as runtime, WorkflowRuntime(still, gate) as other:
        runtime.submit(run_id="r", step_timeout=60)
        await_event(gate.started)
        clock.advance(24 * 3600)
        await_event(gate.steps[0].cancel_token)
        other.submit(run_id="other")
        wait_until(lambda: len(gate.steps) == 2)
        assert [step.run_id for step in gate.steps] == ["r", "other"]
        status = other.status("r")
        assert status is not None and (status.state, status.attempts) == (RunState.RUNNING, 1)
        gate.go.set()


def test_the_next_attempt_has_its_whole_time(still: Queue, clock: ManualClock) -> None:
    attempts: list[int] = []

    def runner(step: Step) -> StepOutcome:
        attempts.append(step.attempts)
        if step.attempts == 1:
            clock.advance(60)
        return Succeed()

    with Queue.temporary(clock=clock, default_config=QueueConfig(retry_backoff_base=0)) as queue:
        runtime = WorkflowRuntime(queue, runner)
        runtime.submit(run_id="r", step_timeout=60)
        runtime.run_until_idle(PATIENCE)
        assert (attempts, state(runtime, "r")) == ([1, 2], RunState.SUCCEEDED)


def test_each_step_has_the_runs_timeout_or_its_own(still: Queue, clock: ManualClock) -> None:
    causes: list[str | None] = []

    def runner(step: Step) -> StepOutcome:
        clock.advance(30)
        wait_until(lambda: step.cancel_token.is_set() or step.step_number != 1)
        causes.append(step.cancel_cause)
        match step.step_number, step.attempts:
            case 0, _:
                return Continue(b"", step_timeout=10)
            case 1, 1:
                return Succeed()
        return Fail("enough")

    runtime = WorkflowRuntime(still, runner)
    runtime.submit(run_id="r", step_timeout=60, max_attempts_per_step=1)
    runtime.run_until_idle(PATIENCE)
    status = runtime.status("r")
    assert causes == [None, "step timeout"]
    assert status is not None and "10 s" in str(status.error)


def test_an_error_is_logged_at_the_timeout_and_every_minute_after_it(
    still: Queue, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]

    gate = Gate()
    with caplog.at_level(logging.ERROR), inside(still, gate) as runtime:
        handle = runtime.submit(run_id="r", step_timeout=60, label="slow")
        await_event(gate.started)
        clock.advance(60)
        for minutes in (1, 2, 3):
            wait_until(lambda minutes=minutes: len(told()) == minutes)  # type: ignore[misc]
            clock.advance(60)
        wait_until(lambda: len(told()) == 4)
    assert all("step timeout" in line and "run r" in line for line in told())
    record = next(each for each in caplog.records if each.levelno == logging.ERROR)
    assert (record.run_id, record.step, record.attempt, record.queue, record.job_id, record.label) == (  # type: ignore[attr-defined]
        "r", 0, 1, STEPS, handle.first_job_id, "slow",
    )  # fmt: skip


def test_a_step_that_overruns_is_overdue_for_every_client(still: Queue, clock: ManualClock) -> None:
    gate = Gate()
    with inside(still, gate) as runtime:
        runtime.submit(run_id="r", step_timeout=60)
        await_event(gate.started)
        other = WorkflowClient(still)
        clock.advance(59)
        status = other.status("r")
        assert status is not None and not status.overdue
        clock.advance(1)
        status = other.status("r")
        assert status is not None and status.overdue
        assert [each.overdue for each in other.list_runs().runs] == [True]
        gate.go.set()
        wait_until(lambda: state(runtime, "r") is RunState.PENDING)
        status = other.status("r")
        assert status is not None and not status.overdue


# The order at a settlement


@pytest.mark.parametrize(
    ("own", "requested", "deadline", "timeout"),
    list(product([True, False], [True, False], [True, False], [True, False])),
)
def test_the_order_is_own_cancel_requested_cancel_deadline_step_timeout_and_the_rest(
    still: Queue, clock: ManualClock, own: bool, requested: bool, deadline: bool, timeout: bool
) -> None:
    gate = Gate(lambda step: Cancel("mine") if own else Succeed())
    with inside(still, gate) as runtime:
        runtime.submit(
            run_id="r",
            deadline=MINUTE if deadline else None,
            step_timeout=60 if timeout else None,
            max_attempts_per_step=1,
        )
        await_event(gate.started)
        (step,) = gate.steps
        clock.advance(60)
        if deadline or timeout:
            await_event(step.cancel_token)
        if requested:
            runtime.cancel("r")
        gate.go.set()
        outcome = ended(runtime, "r")
    error = str(outcome.error)
    if own:
        assert (outcome.status, error) == (TerminalStatus.CANCELLED, "mine")
    elif requested:
        assert (outcome.status, error) == (TerminalStatus.CANCELLED, "None")
    elif deadline:
        assert (outcome.status, error[:19]) == (TerminalStatus.FAILED, "RunDeadlineExceeded")
    elif timeout:
        assert (outcome.status, error[:12]) == (TerminalStatus.FAILED, "StepTimeout:")
    else:
        assert outcome.status is TerminalStatus.SUCCEEDED
    cause = "cancelled" if requested else "deadline" if deadline else "step timeout" if timeout else None
    assert step.cancel_cause == cause


def test_the_cause_of_a_token_that_the_runner_set_itself_is_none(queue: Queue) -> None:
    causes: list[str | None] = []

    def runner(step: Step) -> StepOutcome:
        step.cancel_token.set()
        causes.append(step.cancel_cause)
        return Succeed()

    runtime = WorkflowRuntime(queue, runner)
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    assert causes == [None]
    assert state(runtime, "r") is RunState.SUCCEEDED


def test_a_cancel_is_the_cause_in_whichever_process_it_was_requested(queue: Queue) -> None:
    gate = Gate()
    with inside(queue, gate) as runtime:
        runtime.submit(run_id="r")
        await_event(gate.started)
        queue.handle.store.cancel(gate.steps[0].job_id)  # as another process would: nothing is told here
        await_event(gate.steps[0].cancel_token)
        assert gate.steps[0].cancel_cause == "cancelled"


def test_a_lost_claim_is_a_cause(queue: Queue) -> None:
    gate = Gate()
    with inside(queue, gate) as runtime:
        runtime.submit(run_id="r")
        await_event(gate.started)
        store = queue.handle.store
        (claim,) = store.running()
        store.settle_and_claim([Settlement(claim.job_id, claim.token, Release())], [])
        await_event(gate.steps[0].cancel_token)
        assert gate.steps[0].cancel_cause == "claim lost"


def test_a_step_made_by_hand_has_no_cause() -> None:
    event = threading.Event()
    event.set()
    assert Step("r", 0, b"", {}, "j", 1, 3, event, threading.Event()).cancel_cause is None


# Expiry


def test_a_run_that_has_not_started_in_time_is_cancelled_not_run_late(still: Queue, clock: ManualClock) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(still, echo, hook)
    runtime.submit(run_id="r", expires_after=60)
    clock.advance(60)
    counts = runtime.run_until_idle(PATIENCE)
    status = runtime.status("r")
    assert status is not None and (counts.steps, status.state) == (0, RunState.CANCELLED)
    assert status.error is not None and status.error.startswith("RunExpired: ")
    assert [each.status for each in hook.outcomes] == [TerminalStatus.CANCELLED]


def test_one_that_starts_in_time_may_take_as_long_as_it_likes(still: Queue, clock: ManualClock) -> None:
    def runner(step: Step) -> StepOutcome:
        clock.advance(3600)
        return ContinueAfter(b"", 3600) if step.step_number == 0 else Succeed()

    runtime = WorkflowRuntime(still, runner)
    runtime.submit(run_id="r", expires_after=60)
    runtime.run_until_idle(PATIENCE)
    clock.advance(3600)
    runtime.run_until_idle(PATIENCE)
    assert state(runtime, "r") is RunState.SUCCEEDED


def test_expiry_counts_from_a_later_run_at(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, echo)
    runtime.submit(run_id="r", expires_after=60, run_at=clock.now() + timedelta(hours=1))
    clock.advance(3659)
    runtime.run_until_idle(PATIENCE)
    assert state(runtime, "r") is RunState.SUCCEEDED


def test_a_claim_that_was_released_has_not_started(still: Queue, clock: ManualClock) -> None:
    gate = Gate()
    with inside(still, gate, max_concurrent_steps=1, shutdown_grace=0) as runtime:
        runtime.submit(run_id="busy")
        await_event(gate.started)
        WorkflowClient(still).submit(run_id="r", expires_after=60)
    clock.advance(60)
    runtime = WorkflowRuntime(still, echo)
    runtime.run_until_idle(PATIENCE)
    assert state(runtime, "r") is RunState.CANCELLED


# What is refused, before anything is written


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"deadline": 60}, TypeError, "deadline must be an aware datetime, or a timedelta from the submit, not int"),
        ({"deadline": "soon"}, TypeError, "deadline must be"),
        ({"deadline": datetime(2026, 1, 1)}, ValueError, "has no time zone"),
        ({"deadline": timedelta(0)}, ValueError, "deadline is .*; it must be positive"),
        ({"deadline": timedelta(seconds=-1)}, ValueError, "it must be positive"),
        ({"expires_after": 0}, ValueError, "expires_after is 0; it must be positive"),
        ({"expires_after": datetime.now(UTC)}, TypeError, "expires_after must be seconds"),
        ({"expires_after": float("nan")}, ValueError, "expires_after is nan"),
        ({"step_timeout": 0}, ValueError, "step_timeout is 0; it must be positive"),
        ({"step_timeout": -1}, ValueError, "it must be positive"),
        ({"step_timeout": "1"}, TypeError, "step_timeout must be seconds"),
        ({"step_timeout": True}, TypeError, "step_timeout must be seconds"),
    ],
)
def test_a_wrong_limit_is_refused_by_name(fields: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        RunSpec(**fields)


def test_the_longest_limits_can_be_stored(still: Queue) -> None:
    runtime = WorkflowRuntime(still, echo)
    last = datetime.max.replace(tzinfo=UTC)
    runtime.submit(run_id="a", deadline=timedelta.max, expires_after=timedelta.max, step_timeout=timedelta.max)
    runtime.submit(run_id="b", deadline=last, run_at=None)
    runtime.submit(run_id="c", deadline=datetime.min.replace(tzinfo=UTC))
    runtime.run_until_idle(PATIENCE)
    assert [state(runtime, name) for name in "abc"] == [RunState.SUCCEEDED, RunState.SUCCEEDED, RunState.FAILED]
