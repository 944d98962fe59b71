"""taquba_workflow_sync.testing does what its users lean on."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any

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
from tests.queue.support import START
from tests.support import PATIENCE, in_thread

OUTCOME = RunOutcome("r", TerminalStatus.SUCCEEDED, b"", None, {}, 0, "job", 1, START)


def type_name(value: object) -> str:
    return type(value).__name__


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


@pytest.mark.parametrize(
    "start", ["2026-05-01", 5, 1.5, date(2026, 5, 1), timedelta(1), b"", True, object()], ids=type_name
)
def test_a_manual_clock_is_not_set_to_what_is_no_datetime(start: Any) -> None:
    with pytest.raises(TypeError, match=f"start must be an aware datetime, not {type(start).__name__}"):
        ManualClock(start)


@pytest.mark.parametrize(
    "start",
    [
        datetime(2026, 5, 1),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
    ],
)
def test_a_manual_clock_is_not_set_to_a_datetime_that_is_no_instant(start: datetime) -> None:
    with pytest.raises(ValueError, match=r"time zone|years 1 to 9999"):
        ManualClock(start)


@pytest.mark.parametrize("step", ["5", None, b"5", True, [1], 1j, date(2026, 5, 1), START, object()], ids=type_name)
def test_a_manual_clock_is_not_advanced_by_what_is_no_duration(step: Any) -> None:
    refused_and_unmoved(step, TypeError, f"int or float.*timedelta, not {type(step).__name__}")


@pytest.mark.parametrize(
    "step",
    [
        *(float("nan"), float("inf"), -float("inf"), 1e300, -1e12, 10**400, pytest.param(10**5000, id="huge")),
        *(timedelta.max, timedelta.min),
    ],
)
def test_a_manual_clock_is_not_advanced_out_of_the_calendar(step: Any) -> None:
    refused_and_unmoved(step, ValueError, "years 1 to 9999")


def refused_and_unmoved(step: Any, error: type[Exception], message: str) -> None:
    clock = ManualClock(START)
    told: list[int] = []
    clock.subscribe(lambda: told.append(1))
    with pytest.raises(error, match=message):
        clock.advance(step)

    assert clock.now() == START and told == []
    clock.advance(1)
    assert clock.now() == START + timedelta(seconds=1) and told == [1], "it is as good as before"


def test_a_manual_clock_that_was_set_in_a_zone_with_summer_time_advances_by_what_it_is_told() -> None:
    class Summer(tzinfo):
        """An hour ahead of UTC, two from March on."""

        def utcoffset(self, when: datetime | None) -> timedelta:
            return timedelta(hours=2 if when is not None and when.month >= 3 else 1)

        def dst(self, when: datetime | None) -> timedelta:
            return self.utcoffset(when) - timedelta(hours=1)

    clock = ManualClock(datetime(2026, 2, 28, 23, 30, tzinfo=Summer()))
    assert clock.now() == datetime(2026, 2, 28, 22, 30, tzinfo=UTC)
    clock.advance(timedelta(hours=1))

    assert clock.now() == datetime(2026, 2, 28, 23, 30, tzinfo=UTC)


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
