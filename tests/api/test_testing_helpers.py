"""taquba_workflow_sync.testing does what its users lean on."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest

from taquba_workflow_sync import (
    Cancel,
    Clock,
    Continue,
    Queue,
    RunOutcome,
    Step,
    Succeed,
    TerminalStatus,
    WorkflowRuntime,
)
from taquba_workflow_sync.testing import ManualClock, RecordingHook, ScriptedRunner
from tests.queue.support import PATIENCE, START, in_thread

OUTCOME = RunOutcome("r", TerminalStatus.SUCCEEDED, b"", None, {}, 0, "job", 1, START)


def step(number: int) -> Step:
    return Step("r", number, b"", {}, "job", 1, 3, threading.Event(), threading.Event())


def test_a_manual_clock_stands_still_until_it_is_advanced() -> None:
    clock = ManualClock(datetime(2026, 5, 1, 12, tzinfo=UTC))
    assert clock.now() == clock.now() == datetime(2026, 5, 1, 12, tzinfo=UTC)
    clock.advance(1.5)
    clock.advance(timedelta(minutes=1))
    clock.advance(-0.5)

    assert clock.now() == datetime(2026, 5, 1, 12, 1, 1, tzinfo=UTC)
    assert isinstance(clock, Clock)


def test_a_manual_clock_tells_utc_whatever_zone_it_was_set_in() -> None:
    clock = ManualClock(datetime(2026, 5, 1, 14, tzinfo=timezone(timedelta(hours=2))))

    assert clock.now() == datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert clock.now().utcoffset() == timedelta(0)


def test_a_manual_clock_may_be_advanced_from_many_threads() -> None:
    clock = ManualClock(START)
    joins = [in_thread(lambda: [clock.advance(1) for _ in range(500)]) for _ in range(4)]
    for join in joins:
        join()

    assert clock.now() == START + timedelta(seconds=2000)


def test_a_listener_is_told_until_it_is_unsubscribed() -> None:
    clock = ManualClock()
    told: list[int] = []
    stop = clock.subscribe(lambda: told.append(1))
    clock.advance(1)
    stop()
    stop()
    clock.advance(1)

    assert told == [1]


def test_every_stored_time_reads_the_clock(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, ScriptedRunner([Succeed()]))
    handle = runtime.submit()
    clock.advance(10)
    runtime.run_until_idle(PATIENCE)

    (attempt,) = still.attempt_history(handle.first_job_id)
    assert handle.status().submitted_at == START  # type: ignore[union-attr]
    assert handle.wait(0).finished_at == attempt.claimed_at == attempt.ended_at == START + timedelta(seconds=10)


def test_the_clock_is_read_once_for_a_settlement_and_all_its_times_agree() -> None:
    class Ticking:
        """Moves on at every reading; two readings in one transition would disagree."""

        def __init__(self) -> None:
            self.readings = 0

        def now(self) -> datetime:
            self.readings += 1
            return START + timedelta(seconds=self.readings)

    from taquba_workflow_sync import QueueConfig

    with Queue.temporary(clock=Ticking(), default_config=QueueConfig(keep_done_jobs=10**6)) as queue:
        job_id = queue.enqueue("q", b"")
        claim = queue.claim("q")
        assert claim is not None
        assert claim.job.lease_expires_at - claim.job.claimed_at == timedelta(seconds=30)  # type: ignore[operator]
        queue.ack(claim)
        job = queue.get_job(job_id)
        (attempt,) = queue.attempt_history(job_id)

    assert job is not None and job.completed_at == attempt.ended_at


def test_a_scripted_runner_answers_in_order_and_remembers() -> None:
    runner = ScriptedRunner([Continue(b"1"), OSError("o"), Cancel("c")])

    assert runner.run_step(step(0)) == Continue(b"1")
    with pytest.raises(OSError, match="o"):
        runner.run_step(step(1))
    assert runner.run_step(step(2)) == Cancel("c")
    assert [each.step_number for each in runner.steps] == [0, 1, 2]
    with pytest.raises(AssertionError, match="3 items"):
        runner.run_step(step(3))


def test_a_scripted_runner_takes_any_iterable() -> None:
    assert ScriptedRunner(Succeed(str(n).encode()) for n in range(2)).run_step(step(0)) == Succeed(b"0")


def test_a_recording_hook_keeps_outcomes_and_can_be_waited_for() -> None:
    hook = RecordingHook()
    with pytest.raises(TimeoutError):
        hook.wait_for(1, timeout=0.01)
    join = in_thread(lambda: hook.wait_for(2))
    hook.on_termination(OUTCOME)
    hook.on_termination(OUTCOME)

    assert join() == hook.outcomes == [OUTCOME, OUTCOME]
