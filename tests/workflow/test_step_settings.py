"""What steps are given: label, attempts, backoff, priority, time; by the submit for all, by an outcome for one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from taquba_workflow_sync import (
    Continue,
    ContinueAfter,
    Queue,
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
from taquba_workflow_sync.testing import ManualClock
from tests.support import PATIENCE, wait_until

from .support import STEPS, ended

Seen = list[tuple[Any, ...]]


def telling(seen: Seen, *outcomes: Callable[[Step], StepOutcome]) -> Callable[[Step], StepOutcome]:
    """Note what each step has, and go on as said; then succeed."""

    def runner(step: Step) -> StepOutcome:
        seen.append((step.step_number, step.label, step.max_attempts))
        return outcomes[step.step_number](step) if step.step_number < len(outcomes) else Succeed()

    return runner


def due_in(queue: Queue, clock: ManualClock, run_id: str = "r") -> float:
    """How long a run still waits; 0: it waits for no time, or not any more."""
    job_id = WorkflowClient(queue).status(run_id).job_id  # type: ignore[union-attr]
    job = queue.get_job(job_id)
    assert job is not None
    return 0.0 if job.run_at is None else (job.run_at - clock.now()).total_seconds()


def test_a_label_names_the_step_and_never_carries_over(still: Queue) -> None:
    seen: Seen = []
    runner = telling(seen, lambda step: Continue(b"", label="charge"), lambda step: Continue(b""))
    runtime = WorkflowRuntime(still, runner)
    handle = runtime.submit(run_id="r", label="quote")
    status = handle.status()
    assert status is not None and status.label == "quote"
    runtime.run_until_idle(PATIENCE)
    assert [(number, label) for number, label, _ in seen] == [(0, "quote"), (1, "charge"), (2, None)]


def test_every_process_and_listing_shows_the_label(still: Queue) -> None:
    runtime = WorkflowRuntime(still, lambda step: ContinueAfter(b"", 60, label="wait for the bank"))
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    other = WorkflowClient(still)
    status = other.status("r")
    assert status is not None and status.label == "wait for the bank"
    assert [each.label for each in other.list_runs().runs] == ["wait for the bank"]


def test_the_label_of_the_last_step_stays_with_the_run(still: Queue) -> None:
    runtime = WorkflowRuntime(still, lambda step: Succeed())
    runtime.submit(run_id="r", label="only")
    runtime.run_until_idle(PATIENCE)
    status = runtime.status("r")
    assert status is not None and (status.state, status.label) == (RunState.SUCCEEDED, "only")


def test_logs_show_the_label(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    def runner(step: Step) -> StepOutcome:
        raise StepError.permanent("no")

    with caplog.at_level(logging.INFO, "taquba_workflow_sync"):
        runtime = WorkflowRuntime(queue, runner)
        runtime.submit(run_id="r", label="charge")
        runtime.run_until_idle(PATIENCE)
    assert [each.label for each in caplog.records if getattr(each, "run_id", None) == "r"] == ["charge"] * 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("after", [None, 5])
def test_what_a_step_is_given_holds_for_that_step_alone(still: Queue, clock: ManualClock, after: float | None) -> None:
    def second(step: Step) -> StepOutcome:
        return Continue(b"", max_attempts=9) if after is None else ContinueAfter(b"", after, max_attempts=9)

    seen: Seen = []
    runtime = WorkflowRuntime(still, telling(seen, second, lambda step: Continue(b"")))
    runtime.submit(run_id="r", max_attempts_per_step=2)
    runtime.run_until_idle(PATIENCE)
    clock.advance(5)
    runtime.run_until_idle(PATIENCE)
    assert [attempts for _, _, attempts in seen] == [2, 9, 2]


def test_the_runs_backoff_takes_the_place_of_the_queues(still: Queue, clock: ManualClock) -> None:
    def runner(step: Step) -> StepOutcome:
        if step.attempts < 4:
            raise OSError
        return Succeed()

    runtime = WorkflowRuntime(still, runner)
    runtime.submit(run_id="r", backoff=(7, timedelta(seconds=20)), max_attempts_per_step=5)
    with runtime:
        for wait in (7, 14, 20):
            wait_until(lambda: still.stats(STEPS).scheduled == 1 and due_in(still, clock) > 0)
            assert due_in(still, clock) == wait
            clock.advance(wait)
        assert ended(runtime, "r").status is TerminalStatus.SUCCEEDED


def test_the_backoff_of_a_step_takes_the_place_of_the_runs(still: Queue, clock: ManualClock) -> None:
    def runner(step: Step) -> StepOutcome:
        if step.step_number == 0:
            return Continue(b"", backoff=(2, 2))
        if step.step_number == 1 and step.attempts == 1:
            raise OSError
        if step.step_number == 1:
            return Continue(b"")
        raise OSError

    runtime = WorkflowRuntime(still, runner)
    runtime.submit(run_id="r", backoff=(50, 50))
    with runtime:
        wait_until(lambda: still.stats(STEPS).scheduled == 1)
        assert due_in(still, clock) == 2
        clock.advance(2)
        wait_until(lambda: still.stats(STEPS).scheduled == 1 and due_in(still, clock) > 2)
        assert due_in(still, clock) == 50


def test_the_priority_of_a_step_decides_who_goes_next(still: Queue) -> None:
    order: list[tuple[str, int]] = []

    def runner(step: Step) -> StepOutcome:
        order.append((step.run_id, step.step_number))
        if step.step_number == 0:
            return Continue(b"", priority=1 if step.run_id == "b" else None)
        return Succeed()

    runtime = WorkflowRuntime(still, runner, max_concurrent_steps=1)
    for name in "abc":
        runtime.submit(run_id=name, priority=100)
    runtime.run_until_idle(PATIENCE)
    assert order.index(("b", 1)) == order.index(("b", 0)) + 1


def test_a_retry_gives_the_step_all_it_was_given(still: Queue) -> None:
    seen: Seen = []

    def second(step: Step) -> StepOutcome:
        raise StepError.permanent("no") if len(seen) == 2 else StepError.permanent("again")

    runtime = WorkflowRuntime(still, telling(seen, lambda step: Continue(b"", label="x", max_attempts=7), second))
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    runtime.retry("r")
    runtime.run_until_idle(PATIENCE)
    assert seen[1:] == [(1, "x", 7), (1, "x", 7)]


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"label": ""}, ValueError, "0 bytes; it must have 1 to 255"),
        ({"label": "x" * 256}, ValueError, "256 bytes; it must have 1 to 255"),
        ({"label": "a\nb"}, ValueError, "control characters"),
        ({"label": "\ud800"}, ValueError, "lone surrogates"),
        ({"label": b"x"}, TypeError, "label must be a str, not bytes"),
        ({"backoff": 5}, TypeError, r"backoff must be a pair \(base, max\) of durations, not int"),
        ({"backoff": (1,)}, ValueError, r"it must be a pair"),
        ({"backoff": (1, 2, 3)}, ValueError, r"it must be a pair"),
        ({"backoff": (-1, 2)}, ValueError, "the base of backoff is -1; it must be 0 or more"),
        ({"backoff": (1, "2")}, TypeError, "the maximum of backoff must be seconds"),
        ({"step_timeout": 0}, ValueError, "step_timeout is 0; it must be positive"),
    ],
)
@pytest.mark.parametrize("make", [RunSpec, Continue, lambda **fields: ContinueAfter(b"", 1, **fields)])
def test_a_wrong_setting_is_refused_by_name(
    make: Callable[..., object], fields: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        make(**fields)


@pytest.mark.parametrize(
    ("fields", "error"),
    [({"max_attempts": 0}, ValueError), ({"max_attempts": 1.5}, TypeError), ({"priority": 2**31}, ValueError)],
)
def test_so_is_a_wrong_number_of_a_step(fields: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Continue(b"", **fields)


def test_from_a_step_a_setting_of_the_wrong_type_is_a_permanent_error(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, lambda step: Continue(b"", label=5))  # type: ignore[arg-type]
    runtime.submit(run_id="r")
    counts = runtime.run_until_idle(PATIENCE)
    status = runtime.status("r")
    assert counts.steps == 1
    assert status is not None and (status.state, status.error) == (
        RunState.FAILED, "TypeError: label must be a str, not int",
    )  # fmt: skip


def test_two_outcomes_that_say_the_same_are_equal() -> None:
    assert Continue(b"x", label="a") == Continue(b"x", label="a") != Continue(b"x")
    assert repr(Continue(b"x")) == (
        "Continue(label=None, max_attempts=None, backoff=None, priority=None, step_timeout=None, payload=b'x')"
    )


def test_plain_outcomes_give_nothing() -> None:
    assert Continue(b"x").settings is None
    assert ContinueAfter(b"x", 1).settings is None


def test_a_queue_of_plain_runs_has_no_rows_of_settings(still: Queue) -> None:
    runtime = WorkflowRuntime(still, lambda step: Continue(b"") if step.step_number < 3 else Succeed())
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    assert still.stats(STEPS).done == 1
    assert still.check().ok
