"""Whose step is next (DESIGN 5.2, StepOrder)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from taquba_workflow_sync import (
    PRIORITY_HIGH,
    Continue,
    ContinueAfter,
    Queue,
    RunSpec,
    Step,
    StepOrder,
    StepOutcome,
    Succeed,
    WorkflowRuntime,
)
from taquba_workflow_sync.queue.dispatch import holds
from taquba_workflow_sync.queue.dispatch.holds import SLICE_S
from taquba_workflow_sync.testing import ManualClock
from tests.queue.support import PATIENCE


class Recorder:
    """Three steps per run; remembers in which order they ran."""

    def __init__(self, lasts: float = 0.0) -> None:
        self.order: list[str] = []
        self.lasts = lasts

    def run_step(self, step: Step) -> StepOutcome:
        time.sleep(self.lasts)
        self.order.append(f"{step.run_id}{step.step_number}")
        return Continue() if step.step_number < 2 else Succeed()


TURNS = ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]
ONE_BY_ONE = ["a0", "a1", "a2", "b0", "b1", "b2", "c0", "c1", "c2"]


def order_of(queue: Queue, step_order: StepOrder | str | None, *, lasts: float = 0.0) -> list[str]:
    """The order in which three runs on one thread take their steps, each ``lasts`` seconds long or longer."""
    recorder = Recorder(lasts)
    chosen: dict[str, Any] = {} if step_order is None else {"step_order": step_order}
    runtime = WorkflowRuntime(queue, recorder, max_concurrent_steps=1, **chosen)
    runtime.submit_many([RunSpec(run_id=name) for name in "abc"])
    runtime.run_until_idle(PATIENCE)
    return recorder.order


@pytest.mark.parametrize(
    ("step_order", "expected"),
    [
        (StepOrder.FAIR, TURNS),
        (StepOrder.OLDEST_RUN_FIRST, ONE_BY_ONE),
        ("fair", TURNS),
        ("oldest_run_first", ONE_BY_ONE),
        (None, TURNS),
    ],
)
def test_runs_take_turns_or_the_oldest_finishes_first(
    queue: Queue, step_order: StepOrder | str | None, expected: list[str]
) -> None:
    assert order_of(queue, step_order, lasts=1.5 * SLICE_S) == expected


def test_a_run_of_short_steps_does_several_in_one_turn(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "SLICE_S", PATIENCE)
    assert order_of(queue, StepOrder.FAIR) == ONE_BY_ONE


def test_a_turn_is_over_with_its_slice_whatever_the_length_of_its_steps(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "SLICE_S", 0.0)
    assert order_of(queue, StepOrder.FAIR) == TURNS


@pytest.mark.parametrize("step_order", StepOrder)
def test_priority_goes_before_either_order_and_is_inherited(queue: Queue, step_order: StepOrder) -> None:
    recorder = Recorder()
    runtime = WorkflowRuntime(queue, recorder, max_concurrent_steps=1, step_order=step_order)
    runtime.submit_many([RunSpec(run_id="a"), RunSpec(run_id="z", priority=PRIORITY_HIGH)])
    runtime.run_until_idle(PATIENCE)

    assert recorder.order[:3] == ["z0", "z1", "z2"]


@pytest.mark.parametrize(("step_order", "expected"), [(StepOrder.FAIR, "ba"), (StepOrder.OLDEST_RUN_FIRST, "ab")])
def test_a_delayed_step_that_is_due_stands_where_the_order_says(
    still: Queue, clock: ManualClock, step_order: StepOrder, expected: str
) -> None:
    order: list[str] = []

    def runner(step: Step) -> StepOutcome:
        order.append(step.run_id)
        return ContinueAfter(b"", 10) if step.run_id == "a" and step.step_number == 0 else Succeed()

    runtime = WorkflowRuntime(still, runner, max_concurrent_steps=1, step_order=step_order)
    runtime.submit(run_id="a")
    still_waiting = runtime.submit(run_id="b", run_at=clock.now().replace(second=5))
    runtime.run_until_idle(PATIENCE)
    assert order == ["a"]
    clock.advance(60)
    runtime.run_until_idle(PATIENCE)

    assert still_waiting.status() is not None
    # b was submitted before a's second step was put in line, so it stands before it, unless a keeps its place.
    assert "".join(order[1:]) == expected
