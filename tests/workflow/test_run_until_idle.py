"""run_until_idle: the cron entry point (DESIGN 6.13)."""

from __future__ import annotations

import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from taquba_workflow_sync import (
    Cancel,
    Continue,
    ContinueAfter,
    Fail,
    InvalidStateError,
    Queue,
    QueueConfig,
    RunCounts,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    TerminalStatus,
    WorkflowRuntime,
)
from taquba_workflow_sync.testing import ManualClock, RecordingHook, ScriptedRunner
from tests.queue.support import PATIENCE, START, await_event, counters, in_thread

from .support import NOTICES, STEPS, Gate, echo, state, wait_until


def test_an_idle_queue_returns_at_once_with_nothing_done(queue: Queue) -> None:
    assert WorkflowRuntime(queue, echo).run_until_idle() == RunCounts(0, 0, 0, 0, 0, 0, 0)


def test_it_counts_what_ended_and_every_execution(queue: Queue) -> None:
    def runner(step: Step) -> StepOutcome:
        match step.payload:
            case b"continue":
                return Continue(b"succeed")
            case b"fail":
                return Fail("f")
            case b"cancel":
                return Cancel("c")
            case b"die":
                raise StepError.permanent("p")
            case b"retry" if not step.is_last_attempt:
                raise OSError
        return Succeed()

    runtime = WorkflowRuntime(queue, runner)
    for payload in (b"succeed", b"continue", b"fail", b"cancel", b"die", b"retry"):
        runtime.submit(input=payload)
    counts = runtime.run_until_idle(PATIENCE)

    assert counts == RunCounts(succeeded=3, failed=2, cancelled=1, steps=9, scheduled=0, elsewhere=0, dead=1)


def test_each_call_counts_its_own_work_only(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, ScriptedRunner([Succeed(), StepError.permanent("p"), Succeed()]))
    counts = []
    for _ in range(3):
        runtime.submit()
        counts.append(runtime.run_until_idle(PATIENCE))

    assert [(each.succeeded, each.failed, each.steps, each.dead) for each in counts] == [
        (1, 0, 1, 0), (0, 1, 1, 1), (1, 0, 1, 1),
    ]  # fmt: skip


def test_it_waits_for_the_backoff_of_a_retry(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s", default_config=QueueConfig(retry_backoff_base=0.2)) as queue:
        runner = ScriptedRunner([OSError(), OSError(), Succeed()])
        runtime = WorkflowRuntime(queue, runner)
        runtime.submit()
        began = time.monotonic()

        assert runtime.run_until_idle(PATIENCE) == RunCounts(succeeded=1, steps=3)
        assert time.monotonic() - began >= 0.55


def test_it_waits_for_a_backoff_by_the_stores_clock(still: Queue, clock: ManualClock) -> None:
    runner = ScriptedRunner([OSError(), Succeed()])
    runtime = WorkflowRuntime(still, runner)
    runtime.submit()
    join = in_thread(lambda: runtime.run_until_idle(PATIENCE))
    wait_until(lambda: counters(still, STEPS) == {"scheduled": 1})
    clock.advance(1)

    assert join() == RunCounts(succeeded=1, steps=2)


def test_it_waits_for_a_retry_that_another_call_left_behind(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, ScriptedRunner([Succeed()]))
    runtime.submit()
    claim = still.claim(STEPS)
    assert claim is not None
    still.nack(claim, "a stumble")
    join = in_thread(lambda: runtime.run_until_idle(PATIENCE))
    wait_until(lambda: still.handle.has_loops)
    clock.advance(1)

    assert join().succeeded == 1


@pytest.mark.parametrize("kind", ["submitted for later", "continued after"])
def test_what_becomes_due_later_is_reported_not_waited_for(still: Queue, kind: str) -> None:
    runtime = WorkflowRuntime(still, ScriptedRunner([ContinueAfter(b"", 60)]))
    runtime.submit(run_at=START + timedelta(seconds=60) if kind == "submitted for later" else None)

    assert runtime.run_until_idle(PATIENCE).scheduled == 1
    assert runtime.run_until_idle(PATIENCE, wait_for_scheduled=59.999).scheduled == 1


def test_wait_for_scheduled_waits_for_what_is_due_soon_enough(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, ScriptedRunner([ContinueAfter(b"", 60), Succeed()]))
    runtime.submit()
    join = in_thread(lambda: runtime.run_until_idle(PATIENCE, wait_for_scheduled=timedelta(minutes=1)))
    wait_until(lambda: counters(still, STEPS) == {"scheduled": 1})
    clock.advance(60)

    assert join() == RunCounts(succeeded=1, steps=2)


def test_at_its_timeout_it_finishes_the_step_in_flight_and_leaves_the_rest(queue: Queue) -> None:
    gate = Gate(lambda step: Continue(b"next"))
    runtime = WorkflowRuntime(queue, gate, max_concurrent_steps=1)
    first, second = runtime.submit(), runtime.submit()
    join = in_thread(lambda: runtime.run_until_idle(0.1))
    await_event(gate.started)
    assert gate.steps[0].stopping.wait(PATIENCE), "a step learns that the time is up"
    gate.go.set()

    assert join().steps == 1
    assert [each.status().current_step for each in (first, second)] == [1, 0]  # type: ignore[union-attr]
    assert counters(queue, STEPS) == {"pending": 2}


def test_at_its_timeout_it_does_not_wait_for_a_backoff(still: Queue) -> None:
    runtime = WorkflowRuntime(still, ScriptedRunner([OSError()]))
    runtime.submit()
    began = time.monotonic()
    counts = runtime.run_until_idle(0.2)

    assert (counts.steps, counts.scheduled) == (1, 1)
    assert time.monotonic() - began < PATIENCE / 2


def test_a_timeout_of_nothing_does_no_harm(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo)
    runtime.submit()
    runtime.run_until_idle(0)
    runtime.run_until_idle(PATIENCE)

    assert counters(queue, STEPS) == {"done": 1}


def test_steps_that_others_run_are_reported_not_waited_for(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s") as here, Queue.open(tmp_path / "s") as there:
        gate = Gate()
        with WorkflowRuntime(there, gate) as other:
            other.submit()
            await_event(gate.started)

            assert WorkflowRuntime(here, echo).run_until_idle(PATIENCE).elsewhere == 1
            gate.go.set()


def test_notifications_are_work_too(queue: Queue) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, echo, hook)
    for _ in range(20):
        runtime.submit()
    runtime.run_until_idle(PATIENCE)

    assert len(hook.outcomes) == 20
    assert counters(queue, NOTICES) == {"done": 20}


def test_a_hooks_backoff_is_waited_for(still: Queue, clock: ManualClock) -> None:
    told: list[object] = []

    def hook(outcome: object) -> None:
        told.append(outcome)
        if len(told) == 1:
            raise OSError

    runtime = WorkflowRuntime(still, echo, hook)
    runtime.submit()
    join = in_thread(lambda: runtime.run_until_idle(PATIENCE))
    wait_until(lambda: counters(still, NOTICES) == {"scheduled": 1})
    clock.advance(1)
    join()

    assert len(told) == 2


def test_runs_submitted_while_it_works_are_worked_on_too(queue: Queue) -> None:
    def runner(step: Step) -> StepOutcome:
        if step.payload != b"0":
            runtime.submit(input=str(int(step.payload) - 1).encode())
        return Succeed()

    runtime = WorkflowRuntime(queue, runner)
    runtime.submit(input=b"5")

    assert runtime.run_until_idle(PATIENCE).succeeded == 6


def test_on_a_started_runtime_it_is_refused(queue: Queue) -> None:
    with WorkflowRuntime(queue, echo) as runtime:
        with pytest.raises(InvalidStateError, match="started"):
            runtime.run_until_idle()
        with pytest.raises(InvalidStateError, match="started"):
            runtime.start()
    assert runtime.run_until_idle(PATIENCE).steps == 0


def test_while_it_runs_the_runtime_counts_as_started(queue: Queue) -> None:
    errors: list[BaseException] = []

    def runner(step: Step) -> StepOutcome:
        for call in (runtime.run_until_idle, runtime.start, runtime.run):
            try:
                call()
            except InvalidStateError as error:
                errors.append(error)
        return Succeed()

    runtime = WorkflowRuntime(queue, runner)
    runtime.submit()
    runtime.run_until_idle(PATIENCE)

    assert len(errors) == 3


def test_a_runtime_may_be_started_stopped_and_run_until_idle_in_turn(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo)
    for _ in range(2):
        runtime.submit()
        assert runtime.run_until_idle(PATIENCE).succeeded == 1
        with runtime:
            runtime.submit().wait(PATIENCE)


def test_the_loop_and_the_steps_run_on_threads_of_their_own_and_none_stays(queue: Queue) -> None:
    threads: list[tuple[threading.Thread, set[str]]] = []

    def runner(step: Step) -> StepOutcome:
        threads.append((threading.current_thread(), {each.name for each in threading.enumerate()}))
        return Succeed()

    runtime = WorkflowRuntime(queue, runner)
    runtime.submit()
    runtime.run_until_idle(PATIENCE)

    [(thread, names)] = threads
    assert thread is not threading.current_thread()
    assert "taquba-workflow-steps" in names


def test_an_interrupt_finishes_the_steps_in_flight_before_it_goes_on(queue: Queue) -> None:
    gate = Gate()

    def interrupt() -> None:
        await_event(gate.started)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # type: ignore[arg-type]
        wait_until(lambda: gate.steps[0].stopping.is_set() or not queue.handle.has_loops, "the interrupt")
        gate.go.set()

    runtime = WorkflowRuntime(queue, gate)
    handle = runtime.submit(input=b"x")
    join = in_thread(interrupt)
    with pytest.raises(KeyboardInterrupt):
        runtime.run_until_idle(PATIENCE)
    join()

    assert handle.wait(PATIENCE).status is TerminalStatus.SUCCEEDED
    assert state(runtime, handle.run_id) is not None
