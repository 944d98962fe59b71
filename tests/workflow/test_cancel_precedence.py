"""Who wins when a step returns and a cancellation was requested (DESIGN 6.5)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from taquba_workflow_sync import (
    Cancel,
    Continue,
    ContinueAfter,
    Fail,
    Queue,
    RunState,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.testing import RecordingHook
from tests.queue.support import PATIENCE, await_event, counters

from .support import STEPS, Gate, ended, state, wait_until


def raises(error: BaseException) -> Callable[[Step], StepOutcome]:
    def step_function(step: Step) -> StepOutcome:
        raise error

    return step_function


# what the step does -> how the run ends if nobody cancelled (None: it goes on), and with which error
DEEDS: dict[str, tuple[Callable[[Step], Any], TerminalStatus | None, str | None]] = {
    "succeed": (lambda step: Succeed(b"r"), TerminalStatus.SUCCEEDED, None),
    "continue": (lambda step: Continue(b"next"), None, None),
    "continue after": (lambda step: ContinueAfter(b"next", 3600), None, None),
    "fail": (lambda step: Fail("verdict"), TerminalStatus.FAILED, "verdict"),
    "cancel": (lambda step: Cancel("my own reason"), TerminalStatus.CANCELLED, "my own reason"),
    "transient": (raises(StepError.transient("t")), None, "t"),
    "permanent": (raises(StepError.permanent("p")), TerminalStatus.FAILED, "p"),
    "exception": (raises(OSError("o")), None, "OSError: o"),
    "base exception": (raises(KeyboardInterrupt()), None, "KeyboardInterrupt"),
    "no outcome": (lambda step: None, TerminalStatus.FAILED, "run_step returned"),
    "wrong type": (lambda step: Succeed("text"), TerminalStatus.FAILED, "TypeError"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("deed", "requested", "last"), list(product(DEEDS, [True, False], [True, False])))
def test_the_runners_own_cancel_then_a_requested_one_then_anything_else(
    still: Queue, deed: str, requested: bool, last: bool
) -> None:
    then, status, error = DEEDS[deed]
    gate = Gate(then)
    hook = RecordingHook()
    with WorkflowRuntime(still, gate, hook) as runtime:
        handle = runtime.submit(max_attempts_per_step=1 if last else 2)
        await_event(gate.started)
        if requested:
            assert runtime.cancel(handle.run_id) is True
        gate.go.set()
        is_transient = status is None and error is not None
        if requested:
            expected = TerminalStatus.CANCELLED
            expected_error = "my own reason" if deed == "cancel" else None
        elif is_transient and last:
            expected, expected_error = TerminalStatus.FAILED, error
        elif status is not None:
            expected, expected_error = status, error
        else:
            # It goes on: a retry waits for its backoff, a delayed step for its time; a plain Continue never ends here.
            if deed == "continue":
                wait_until(lambda: len(gate.steps) >= 2)
                gate.then = lambda step: Succeed()
                assert handle.wait(PATIENCE).status is TerminalStatus.SUCCEEDED
                return
            wait_until(lambda: counters(still, STEPS) == {"scheduled": 1})
            assert state(runtime, handle.run_id) is RunState.PENDING
            return

        outcome = handle.wait(PATIENCE)
        assert outcome.status is expected
        if expected_error is None:
            assert outcome.error is None
        else:
            assert outcome.error is not None and outcome.error.startswith(expected_error)
        assert hook.wait_for(1) == [outcome]
        assert len(gate.steps) == 1, "no retry, no next step"
        if requested:
            assert still.dead_jobs(STEPS).jobs == [], "no dead letter"
    assert len(hook.outcomes) == 1


def test_a_runner_that_sets_its_own_token_has_not_cancelled_anything(queue: Queue) -> None:
    def runner(step: Step) -> StepOutcome:
        step.cancel_token.set()
        return Continue(b"next") if step.step_number == 0 else Succeed(step.payload)

    with WorkflowRuntime(queue, runner) as runtime:
        handle = runtime.submit()

        assert handle.result(PATIENCE) == b"next"


def test_the_token_a_runner_set_itself_is_not_set_at_the_next_attempt(queue: Queue) -> None:
    tokens: list[bool] = []

    def runner(step: Step) -> StepOutcome:
        tokens.append(step.cancel_token.is_set())
        step.cancel_token.set()
        if len(tokens) < 3:
            raise OSError
        return Succeed()

    with WorkflowRuntime(queue, runner) as runtime:
        runtime.submit().result(PATIENCE)

    assert tokens == [False, False, False]


def test_a_run_claimed_after_the_request_never_reaches_the_runner(queue: Queue) -> None:
    """A bare nack keeps the request; the runtime's next claim settles it without running the step."""
    client = WorkflowClient(queue)
    handle = client.submit()
    claim = queue.claim(STEPS)
    assert claim is not None
    assert client.cancel(handle.run_id) is True
    queue.nack(claim, "a stumble")
    calls: list[Step] = []

    def runner(step: Step) -> StepOutcome:
        calls.append(step)
        return Succeed()

    hook = RecordingHook()
    counts = WorkflowRuntime(queue, runner, hook).run_until_idle(PATIENCE)

    assert calls == []
    assert (counts.cancelled, counts.steps) == (1, 0)
    assert ended(client, handle.run_id).status is TerminalStatus.CANCELLED
    assert [outcome.error for outcome in hook.outcomes] == [None]


def test_a_bare_ack_of_a_cancelled_run_does_not_win_over_the_request_within_the_runtime(queue: Queue) -> None:
    """A request that comes between the step's return and its settlement still wins: the stored row decides."""
    gate = Gate()
    with WorkflowRuntime(queue, gate) as runtime:
        handle = runtime.submit()
        await_event(gate.started)
        WorkflowClient(queue).cancel(handle.run_id)
        assert gate.steps[0].cancel_token.wait(PATIENCE)
        gate.steps[0].cancel_token.clear()  # whatever the runner does to its token
        gate.go.set()

        assert handle.wait(PATIENCE).status is TerminalStatus.CANCELLED
