"""Stopping: what has started ends, what has not is put back, and nothing runs twice (DESIGN 6.10)."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from taquba_workflow_sync import (
    Continue,
    Queue,
    QueueConfig,
    RunState,
    Step,
    StepOutcome,
    StoreClosedError,
    Succeed,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.storage.relational.sql.names import JOB
from taquba_workflow_sync.testing import RecordingHook
from tests.queue.support import PATIENCE, await_event, counters, in_thread

from .support import STEPS, Gate, echo, state, wait_until


def test_stopping_what_was_never_started_is_nothing(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo)

    assert runtime.stop() is True
    assert runtime.stop(0) is True


def test_stop_is_idempotent_and_the_runtime_can_start_again(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo)
    for _ in range(3):
        runtime.start()
        assert runtime.submit().wait(PATIENCE).status is TerminalStatus.SUCCEEDED
        assert runtime.stop() is True
        assert runtime.stop() is True


def test_a_stopped_runtime_claims_nothing(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo)
    runtime.start()
    runtime.stop()
    handle = runtime.submit()

    with pytest.raises(TimeoutError):
        handle.wait(0.1)
    assert counters(queue, STEPS) == {"pending": 1}


def test_stop_sets_stopping_and_waits_for_the_step_in_flight(queue: Queue) -> None:
    gate = Gate(lambda step: Continue(b"half done"))
    runtime = WorkflowRuntime(queue, gate)
    runtime.start()
    handle = runtime.submit()
    await_event(gate.started)
    assert not gate.steps[0].stopping.is_set()
    join = in_thread(runtime.stop)
    assert gate.steps[0].stopping.wait(PATIENCE)
    assert not gate.steps[0].cancel_token.is_set(), "a shutdown is no cancellation"
    gate.go.set()

    assert join() is True
    status = handle.status()
    assert status is not None and (status.state, status.current_step) == (RunState.PENDING, 1)
    assert len(gate.steps) == 1, "the next step is left to the next process"


def test_what_never_started_is_put_back_uncharged_at_its_place(queue: Queue) -> None:
    """One thread, many runs: whatever was claimed ahead of the thread goes back without an attempt."""
    gate = Gate()
    runtime = WorkflowRuntime(queue, gate, max_concurrent_steps=1)
    handles = [runtime.submit(run_id=f"r{n}") for n in range(20)]
    runtime.start()
    await_event(gate.started)
    join = in_thread(runtime.stop)
    assert gate.steps[0].stopping.wait(PATIENCE)
    gate.go.set()
    assert join() is True

    statuses = [handle.status() for handle in handles]
    assert [status.state for status in statuses if status] == [RunState.SUCCEEDED] + [RunState.PENDING] * 19
    assert all(status.attempts == 0 for status in statuses[1:] if status)
    order: list[str] = []

    def runner(step: Step) -> StepOutcome:
        order.append(step.run_id)
        return Succeed()

    WorkflowRuntime(queue, runner, max_concurrent_steps=1).run_until_idle(PATIENCE)
    assert order == [f"r{n}" for n in range(1, 20)]


def test_claims_that_no_thread_has_started_are_released_without_an_attempt(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that do not come: every claim is one whose step never started."""
    from taquba_workflow_sync.queue.dispatch.pool import Pool

    monkeypatch.setattr(Pool, "_call_one", lambda self: None)
    runtime = WorkflowRuntime(queue, echo)
    handle = runtime.submit()
    runtime.start()
    wait_until(lambda: counters(queue, STEPS) == {"claimed": 1})

    assert runtime.stop(PATIENCE) is True
    assert counters(queue, STEPS) == {"pending": 1}
    status = handle.status()
    assert status is not None and status.attempts == 0
    assert queue.attempt_history(handle.first_job_id) == []


@pytest.mark.parametrize("how", ["grace of the runtime", "timeout of the call"])
def test_after_the_grace_a_step_keeps_its_claim_and_may_still_settle(queue: Queue, how: str) -> None:
    gate = Gate()
    runtime = WorkflowRuntime(queue, gate, shutdown_grace=0.05 if how.startswith("grace") else None)
    runtime.start()
    handle = runtime.submit(input=b"x")
    await_event(gate.started)
    began = time.monotonic()

    assert (runtime.stop() if how.startswith("grace") else runtime.stop(0.05)) is False

    assert 0.05 <= time.monotonic() - began < PATIENCE / 2
    assert state(runtime, handle.run_id) is RunState.RUNNING
    successor = WorkflowRuntime(queue, echo)
    assert successor.run_until_idle(PATIENCE).elsewhere == 1, "no successor beside it"
    gate.go.set()
    assert handle.result(PATIENCE) == b"x"
    assert runtime.stop(PATIENCE) is True
    assert len(gate.steps) == 1


def test_a_timeout_replaces_the_grace_for_one_call(queue: Queue) -> None:
    gate = Gate()
    runtime = WorkflowRuntime(queue, gate, shutdown_grace=0)
    runtime.start()
    runtime.submit()
    await_event(gate.started)
    assert runtime.stop() is False
    join = in_thread(lambda: runtime.stop(PATIENCE))
    gate.go.set()

    assert join() is True


def test_a_step_that_outlives_stop_and_close_is_never_run_beside_itself_and_settles(tmp_path: Path) -> None:
    config = QueueConfig(lease_duration=6.0)  # a stalled machine must not lose it
    queue = Queue.open(tmp_path / "s", default_config=config)
    gate = Gate()
    runtime = WorkflowRuntime(queue, gate)
    runtime.start()
    handle = runtime.submit(run_id="r", input=b"x")
    await_event(gate.started)
    assert runtime.stop(0) is False
    queue.close()
    with pytest.raises(StoreClosedError):
        handle.status()

    with Queue.open(tmp_path / "s", default_config=config) as other:
        calls: list[Step] = []

        def runner(step: Step) -> StepOutcome:
            calls.append(step)
            return Succeed(b"the successor's")

        with WorkflowRuntime(other, runner) as successor:
            first = other.get_job(handle.first_job_id)
            assert first is not None

            def renewed() -> bool:
                job = other.get_job(handle.first_job_id)
                return job is not None and job.lease_expires_at != first.lease_expires_at

            wait_until(renewed, "the renewal of the lease past the close")
            gate.go.set()
            assert successor.wait("r", PATIENCE).result == b"x"
        assert calls == []


def test_leaving_the_with_block_waits_for_the_step(queue: Queue) -> None:
    gate = Gate()
    with WorkflowRuntime(queue, gate) as runtime:
        handle = runtime.submit()
        await_event(gate.started)
        release = threading.Timer(0.05, gate.go.set)
        release.start()
    release.join(PATIENCE)

    assert state(runtime, handle.run_id) is RunState.SUCCEEDED


def test_a_stop_from_inside_a_step_does_not_wait_for_itself(queue: Queue) -> None:
    results: list[bool] = []

    def runner(step: Step) -> StepOutcome:
        results.append(runtime.stop())
        assert step.stopping.wait(PATIENCE)
        return Succeed()

    runtime = WorkflowRuntime(queue, runner)
    runtime.start()
    handle = runtime.submit()

    assert handle.wait(PATIENCE).status is TerminalStatus.SUCCEEDED
    assert results == [False]
    assert runtime.stop(PATIENCE) is True


def test_the_hooks_of_steps_that_end_during_the_stop_are_delivered_or_left_stored(queue: Queue) -> None:
    gate = Gate()
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, gate, hook)
    runtime.start()
    handle = runtime.submit()
    await_event(gate.started)
    join = in_thread(runtime.stop)
    assert gate.steps[0].stopping.wait(PATIENCE)
    gate.go.set()
    assert join() is True
    WorkflowRuntime(queue, gate, hook).run_until_idle(PATIENCE)

    assert [outcome.run_id for outcome in hook.outcomes] == [handle.run_id]


def test_closing_the_queue_under_a_running_runtime_stops_it(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo)
    runtime.start()
    runtime.submit().wait(PATIENCE)
    queue.close()

    assert runtime.stop(PATIENCE) is True
    with pytest.raises(StoreClosedError):
        runtime.submit()


# -- run() -------------------------------------------------------------------------------------------------------------


def test_run_blocks_until_its_event_is_set_and_drains(queue: Queue) -> None:
    gate = Gate()
    runtime = WorkflowRuntime(queue, gate)
    shutdown = threading.Event()
    join = in_thread(lambda: runtime.run(shutdown))
    handle = runtime.submit()
    await_event(gate.started)
    shutdown.set()
    assert gate.steps[0].stopping.wait(PATIENCE)
    gate.go.set()
    join()

    assert state(runtime, handle.run_id) is RunState.SUCCEEDED


def test_run_ends_when_another_thread_stops_the_runtime(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo)
    join = in_thread(runtime.run)
    runtime.submit().wait(PATIENCE)
    assert runtime.stop(PATIENCE) is True
    join()


def test_run_keeps_to_its_grace(queue: Queue) -> None:
    gate = Gate()
    runtime = WorkflowRuntime(queue, gate, shutdown_grace=0.05)
    shutdown = threading.Event()
    join = in_thread(lambda: runtime.run(shutdown))
    handle = runtime.submit()
    await_event(gate.started)
    shutdown.set()
    join()

    assert state(runtime, handle.run_id) is RunState.RUNNING
    gate.go.set()
    assert handle.wait(PATIENCE).status is TerminalStatus.SUCCEEDED
    assert runtime.stop(PATIENCE)


def test_run_with_an_event_set_beforehand_returns(queue: Queue) -> None:
    shutdown = threading.Event()
    shutdown.set()
    WorkflowRuntime(queue, echo).run(shutdown)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_run_ends_on_a_signal_and_puts_the_handlers_back(queue: Queue, name: str) -> None:
    import signal

    number = getattr(signal, name)
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    gate = Gate()
    runtime = WorkflowRuntime(queue, gate)
    handle = runtime.submit()

    def send() -> None:
        await_event(gate.started)
        wait_until(lambda: signal.getsignal(number) is not before[number], "the handler")
        signal.pthread_kill(threading.main_thread().ident, number)  # type: ignore[arg-type]
        assert gate.steps[0].stopping.wait(PATIENCE)
        gate.go.set()

    join = in_thread(send)
    runtime.run(handle_signals=True)
    join()

    assert state(runtime, handle.run_id) is RunState.SUCCEEDED
    assert {each: signal.getsignal(each) for each in before} == before


def test_handle_signals_is_for_the_main_thread_only(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo)
    join = in_thread(lambda: runtime.run(handle_signals=True))

    with pytest.raises(ValueError, match="main thread"):
        join()
    assert runtime.stop() is True


def test_an_interrupt_of_run_drains_and_goes_on(queue: Queue) -> None:
    import signal

    gate = Gate()
    runtime = WorkflowRuntime(queue, gate)
    handle = runtime.submit()

    def send() -> None:
        await_event(gate.started)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # type: ignore[arg-type]
        assert gate.steps[0].stopping.wait(PATIENCE)
        gate.go.set()

    join = in_thread(send)
    with pytest.raises(KeyboardInterrupt):
        runtime.run()
    join()

    assert state(runtime, handle.run_id) is RunState.SUCCEEDED


# -- threads -----------------------------------------------------------------------------------------------------------


def test_no_more_steps_run_at_once_than_allowed_and_as_many_do(queue: Queue) -> None:
    together = threading.Barrier(4)
    lock = threading.Lock()
    running, most = 0, 0

    def runner(step: Step) -> StepOutcome:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(PATIENCE)
        with lock:
            running -= 1
        return Succeed()

    runtime = WorkflowRuntime(queue, runner, max_concurrent_steps=4)
    for _ in range(12):
        runtime.submit()
    runtime.run_until_idle(PATIENCE)

    assert most == 4


def test_the_threads_are_named_and_gone_after_the_stop(queue: Queue) -> None:
    before = set(threading.enumerate())
    runtime = WorkflowRuntime(queue, echo)
    runtime.submit()
    assert set(threading.enumerate()) == before, "nothing starts before start()"
    runtime.start()
    runtime.submit().wait(PATIENCE)
    names = {thread.name for thread in set(threading.enumerate()) - before}
    assert names and all(name.startswith("taquba") for name in names)
    assert all(thread.daemon for thread in set(threading.enumerate()) - before if "step" not in thread.name.split("-"))
    runtime.stop()
    wait_until(lambda: not (set(threading.enumerate()) - before))


def test_long_steps_are_renewed_and_run_once(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s", default_config=QueueConfig(lease_duration=0.2)) as queue:
        gate = Gate()
        with WorkflowRuntime(queue, gate) as runtime:
            handle = runtime.submit()
            await_event(gate.started)
            leases = set()

            def renewed() -> bool:
                job = queue.get_job(handle.first_job_id)
                leases.add(job and job.lease_expires_at)
                return len(leases) > 4

            wait_until(renewed, "four renewals")
            gate.go.set()
            assert handle.wait(PATIENCE).status is TerminalStatus.SUCCEEDED
    assert [step.attempts for step in gate.steps] == [1]


@pytest.mark.embedded
def test_a_lost_claim_sets_the_token_and_its_late_settlement_is_fenced_off(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Lost by a foreign hand: the row is taken away under the running step."""
    from tests.queue.support import corrupt

    gate = Gate()
    with WorkflowRuntime(queue, gate) as runtime:
        handle = runtime.submit(run_at=None)
        await_event(gate.started)
        corrupt(
            queue,
            f"UPDATE {JOB} SET token = 'other.1.' || seq WHERE id = ?",
            handle.first_job_id,
        )
        assert gate.steps[0].cancel_token.wait(PATIENCE)
        assert not gate.steps[0].stopping.is_set()
        gate.go.set()
    assert any("was not settled" in record.message for record in caplog.records)
    assert state(WorkflowClient(queue), handle.run_id) is RunState.RUNNING
