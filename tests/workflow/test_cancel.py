"""Cancelling runs: what it returns, when the token is set, who is told (DESIGN 6.5, 6.6)."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taquba_workflow_sync import (
    Cancel,
    Continue,
    Queue,
    RunCancelledError,
    RunOutcome,
    RunState,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.testing import ManualClock, RecordingHook, ScriptedRunner
from tests.queue.support import PATIENCE, START, await_event, counters, in_thread

from .support import NOTICES, STEPS, Gate, ended, state, wait_until


@pytest.mark.parametrize("run_at", [None, START + timedelta(days=1)])
def test_a_waiting_run_ends_at_once(still: Queue, run_at: object) -> None:
    client = WorkflowClient(still)
    handle = client.submit(run_at=run_at)

    assert client.cancel(handle.run_id) is True
    assert state(client, handle.run_id) is RunState.CANCELLED
    outcome = client.outcome(handle.run_id)
    assert outcome is not None
    assert (outcome.status, outcome.error, outcome.result) == (TerminalStatus.CANCELLED, None, None)
    with pytest.raises(RunCancelledError):
        handle.result(0)


def test_cancel_is_false_for_unknown_and_ended_runs(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, ScriptedRunner([Succeed(), StepError.permanent("p"), Cancel("c")]))
    handles = [runtime.submit() for _ in range(3)]
    runtime.run_until_idle(PATIENCE)
    before = [handle.status() for handle in handles]

    assert runtime.cancel("unknown") is False
    assert [runtime.cancel(handle.run_id) for handle in handles] == [False] * 3
    assert [handle.cancel() for handle in handles] == [False] * 3
    assert [handle.status() for handle in handles] == before


def test_a_second_cancel_of_a_waiting_run_is_false_and_tells_nobody_twice(queue: Queue) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, lambda step: Succeed(), hook)
    handle = runtime.submit()

    assert (handle.cancel(), handle.cancel(), runtime.cancel(handle.run_id)) == (True, False, False)
    assert len(hook.outcomes) == 1


def test_a_running_step_is_told_and_the_run_is_cancelling_until_it_returns(queue: Queue) -> None:
    gate = Gate()
    hook = RecordingHook()
    with WorkflowRuntime(queue, gate, hook) as runtime:
        handle = runtime.submit()
        await_event(gate.started)

        assert [handle.cancel() for _ in range(3)] == [True, True, True]
        assert gate.steps[0].cancel_token.wait(PATIENCE)
        assert state(runtime, handle.run_id) is RunState.CANCELLING
        assert [run.run_id for run in runtime.list_runs(RunState.CANCELLING).runs] == [handle.run_id]
        assert runtime.list_runs(RunState.RUNNING).runs == []
        assert runtime.outcome(handle.run_id) is None
        assert hook.outcomes == []
        gate.go.set()

        assert handle.wait(PATIENCE).status is TerminalStatus.CANCELLED
        hook.wait_for(1)
        assert handle.cancel() is False
    assert len(hook.outcomes) == 1


def test_a_cancel_through_another_handle_reaches_the_step_within_a_quarter_of_a_second(tmp_path: Path) -> None:
    """Asked of the best of several tries: the machine may be busy, the mechanism may not be a slow poll."""
    with Queue.open(tmp_path / "s") as here, Queue.open(tmp_path / "s") as there:
        delays = []
        for _ in range(5):
            gate = Gate()
            with WorkflowRuntime(here, gate, poll_interval=3600) as runtime:
                handle = runtime.submit()
                await_event(gate.started)
                asked = time.monotonic()
                assert WorkflowClient(there).cancel(handle.run_id) is True
                assert gate.steps[0].cancel_token.wait(PATIENCE)
                delays.append(time.monotonic() - asked)
                gate.go.set()
                assert handle.wait(PATIENCE).status is TerminalStatus.CANCELLED

    assert min(delays) < 0.25


def test_a_run_between_its_attempts_is_cancelled_at_once(still: Queue) -> None:
    runtime = WorkflowRuntime(still, ScriptedRunner([OSError("o")]))
    handle = runtime.submit()
    with runtime:
        wait_until(lambda: counters(still, STEPS) == {"scheduled": 1})

        assert handle.cancel() is True
        assert state(runtime, handle.run_id) is RunState.CANCELLED
        assert ended(runtime, handle.run_id).error is None, "not the error of an attempt that does not count"


def test_a_run_between_its_steps_is_cancelled_at_that_step(still: Queue) -> None:
    client = WorkflowClient(still)
    handle = client.submit()
    claim = still.claim(STEPS)
    assert claim is not None
    still.advance(claim, b"")
    handle.cancel()

    assert ended(client, handle.run_id).final_step == 1


def test_a_cancelled_name_is_free_again_by_rerun_only(queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="r").cancel()

    assert client.submit(run_id="r").newly_submitted is False
    assert client.submit(run_id="r", if_finished="rerun").newly_submitted is True  # the value will do


def test_the_hook_has_run_in_line_when_cancel_of_a_waiting_run_returns(queue: Queue) -> None:
    threads: list[threading.Thread] = []
    outcomes: list[RunOutcome] = []

    def hook(outcome: RunOutcome) -> None:
        threads.append(threading.current_thread())
        outcomes.append(outcome)

    runtime = WorkflowRuntime(queue, lambda step: Succeed(), hook)
    handle = runtime.submit(headers={"h": "1"})
    handle.cancel()

    assert threads == [threading.current_thread()]
    assert outcomes == [runtime.outcome(handle.run_id)]
    assert counters(queue, NOTICES) == {"done": 1}


def test_the_inline_hook_is_not_run_by_a_running_runtime_too(queue: Queue) -> None:
    called: list[str] = []
    inside, go = threading.Event(), threading.Event()

    def hook(outcome: RunOutcome) -> None:
        called.append(threading.current_thread().name)
        inside.set()
        await_event(go)

    with WorkflowRuntime(queue, lambda step: Succeed(), hook) as runtime:
        handle = runtime.submit(run_at=datetime.now(UTC) + timedelta(days=1))
        join = in_thread(handle.cancel)
        await_event(inside)
        other = runtime.submit()
        other.wait(PATIENCE)
        assert called == ["test-helper"] or len(called) == 2  # the other run's own notification may be there
        go.set()
        assert join() is True
        wait_until(lambda: counters(queue, NOTICES) == {"done": 2})

    assert called.count("test-helper") == 1 and len(called) == 2


def test_an_inline_hook_that_raises_is_retried_and_the_cancel_stands(still: Queue, clock: ManualClock) -> None:
    outcomes: list[RunOutcome] = []

    def hook(outcome: RunOutcome) -> None:
        outcomes.append(outcome)
        if len(outcomes) == 1:
            raise OSError("receiver down")

    runtime = WorkflowRuntime(still, lambda step: Succeed(), hook)
    handle = runtime.submit()

    assert handle.cancel() is True
    assert counters(still, NOTICES) == {"scheduled": 1}
    assert state(runtime, handle.run_id) is RunState.CANCELLED
    clock.advance(1)
    runtime.run_until_idle(PATIENCE)
    assert outcomes[0] == outcomes[1] and len(outcomes) == 2


def test_an_inline_hook_may_submit_cancel_and_look(queue: Queue) -> None:
    seen: list[object] = []

    def hook(outcome: RunOutcome) -> None:
        seen.append(state(runtime, outcome.run_id))
        if outcome.run_id == "first":
            seen.append(runtime.cancel("second"))

    runtime = WorkflowRuntime(queue, lambda step: Succeed(), hook)
    runtime.submit(run_id="first")
    runtime.submit(run_id="second")
    runtime.cancel("first")

    assert seen == [RunState.CANCELLED, RunState.CANCELLED, True]


def test_a_client_without_the_hook_leaves_the_notification_to_the_runtime(queue: Queue) -> None:
    hook = RecordingHook()
    with WorkflowRuntime(queue, lambda step: Succeed(), hook) as runtime:
        client = WorkflowClient(queue)
        handle = client.submit(run_at=datetime.now(UTC) + timedelta(days=1))
        assert client.cancel(handle.run_id) is True

        assert hook.wait_for(1) == [runtime.outcome(handle.run_id)]


def test_cancelling_the_job_itself_ends_the_run_too(queue: Queue) -> None:
    """Queue.cancel is for bare jobs, but on a run it must not lose the run's end."""
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, lambda step: Succeed(), hook)
    handle = runtime.submit()
    queue.cancel(handle.first_job_id)
    assert state(runtime, handle.run_id) is RunState.CANCELLED
    runtime.run_until_idle(PATIENCE)

    assert [outcome.status for outcome in hook.outcomes] == [TerminalStatus.CANCELLED]


def test_a_request_survives_a_bare_nack_and_is_listed_as_cancelling(queue: Queue) -> None:
    client = WorkflowClient(queue)
    handle = client.submit()
    claim = queue.claim(STEPS)
    assert claim is not None
    client.cancel(handle.run_id)
    queue.nack(claim, "a stumble")

    run_state = state(client, handle.run_id)
    assert run_state is not None
    assert [run.run_id for run in client.list_runs(run_state).runs] == [handle.run_id], run_state


def test_a_step_may_cancel_its_own_run(queue: Queue) -> None:
    def runner(step: Step) -> StepOutcome:
        assert runtime.cancel(step.run_id) is True
        assert step.cancel_token.wait(PATIENCE)
        return Continue(b"never")

    with WorkflowRuntime(queue, runner) as runtime:
        assert runtime.submit().wait(PATIENCE).status is TerminalStatus.CANCELLED
