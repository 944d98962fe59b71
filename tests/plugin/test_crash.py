"""The first attempt of each step is cut at the point that is named, and what comes of it is what a crash comes to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event
from typing import Any

import pytest

from taquba_workflow_sync import Queue, StepOutcome, Succeed
from taquba_workflow_sync import Step as RawStep
from taquba_workflow_sync.testing import Crashes, CrashPoint, RunToEnd, SimulatedCrash

pytest.importorskip("msgspec")

from taquba_workflow_sync.flow import Do, Flow, Goto, Step

CrashAt = Callable[..., AbstractContextManager[Crashes]]


@dataclass
class Order:
    id: int


class Shop:
    """A flow of two steps, and what has been seen of their attempts."""

    def __init__(self, max_attempts: int | None = None) -> None:
        self.seen: list[str] = []
        self.flow = flow = Flow[Order, str]("orders")

        @flow.start(max_attempts=max_attempts)
        def charge(order: Order, step: Step) -> Goto:
            self.seen.append(f"charge {step.attempts}")
            step.once("pay", self.see, "pay")
            step.once("note", self.see, "note")
            step.effects.add("charged", 1)
            return ship.goto(order)

        @flow.step
        def ship(order: Order, step: Step) -> str:
            self.seen.append(f"ship {step.attempts}")
            return "shipped"

    def see(self, what: str) -> str:
        self.seen.append(what)
        return what


WHOLE = ["charge 1", "pay", "note", "ship 1"]
SEEN = {
    ("before-runner", 1): ["charge 2", "pay", "note", "ship 2"],
    ("inside-once", 1): ["charge 1", "pay", "charge 2", "pay", "note", "ship 1"],
    ("after-once", 1): ["charge 1", "pay", "charge 2", "note", "ship 1"],
    ("inside-once", 2): ["charge 1", "pay", "note", "charge 2", "note", "ship 1"],
    ("after-once", 2): ["charge 1", "pay", "note", "charge 2", "ship 1"],
    ("after-once", 3): WHOLE,
    ("after-runner", 1): ["charge 1", "pay", "note", "charge 2", "ship 1", "ship 2"],
    ("after-settle", 1): WHOLE,
}


@pytest.mark.parametrize(("point", "nth"), SEEN)
def test_each_step_is_cut_once_and_taken_up_again(
    taquba_run: RunToEnd, taquba_crash_at: CrashAt, taquba_queue: Queue, point: str, nth: int
) -> None:
    shop = Shop()
    with taquba_crash_at(point, nth=nth) as crashes:
        outcome = taquba_run(shop.flow, Order(1), run_id="r")

    assert outcome.result == "shipped"
    assert shop.seen == SEEN[point, nth]
    assert taquba_queue.kv.get("charged") == b"1", "effects are written with the end of a step, and once"
    notes = 0 if nth == 3 else 1
    assert crashes.cut == (["r: charge"] * notes if "once" in point else ["r: charge", "r: ship"])


def runtimes_of(taquba_run: RunToEnd) -> int:
    """Return how many runtimes have run the three steps of a run, each in place of a process."""
    flow = Flow[int, str]("long")
    stopping: list[Event] = []

    @flow.start
    def count(left: int, step: Step) -> Goto | str:
        stopping.append(step.stopping)
        return count.goto(left - 1) if left else "end"

    assert taquba_run(flow, 2).result == "end"
    assert len(stopping) == 3
    return len(set(map(id, stopping)))


def test_what_is_cut_after_its_end_was_stored_goes_on_in_another_runtime_as_in_another_process(
    taquba_run: RunToEnd, taquba_crash_at: CrashAt
) -> None:
    assert runtimes_of(taquba_run) == 1
    with taquba_crash_at("after-settle") as crashes:
        assert runtimes_of(taquba_run) == 3
    assert len(crashes.cut) == 3


def test_every_point_there_is_has_been_tried() -> None:
    assert {point for point, _ in SEEN} == set(CrashPoint)


def test_outside_of_the_block_nothing_is_cut(taquba_run: RunToEnd, taquba_crash_at: CrashAt) -> None:
    shop = Shop()
    with taquba_crash_at("after-runner"):
        pass
    taquba_run(shop.flow, Order(1))

    assert shop.seen == WHOLE


def test_blocks_may_be_inside_each_other(taquba_run: RunToEnd, taquba_crash_at: CrashAt) -> None:
    shop = Shop()
    with taquba_crash_at("after-once") as first, taquba_crash_at("after-settle") as second:
        assert taquba_run(shop.flow, Order(1), run_id="r").result == "shipped"

    assert first.cut == ["r: charge"] and second.cut == ["r: charge", "r: ship"]


def test_a_cut_counts_as_an_attempt_and_the_last_one_is_the_end(taquba_run: RunToEnd, taquba_crash_at: CrashAt) -> None:
    with taquba_crash_at("before-runner"):
        outcome = taquba_run(Shop(max_attempts=1).flow, Order(1))

    assert outcome.status == "failed"
    assert outcome.error == "SimulatedCrash: cut at before-runner, as if the process had died"


@pytest.mark.parametrize("point", ["inside-once", "after-once"])
def test_a_step_that_catches_everything_is_cut_all_the_same(
    taquba_run: RunToEnd, taquba_crash_at: CrashAt, point: str
) -> None:
    attempts: list[int] = []

    def run_step(step: RawStep) -> StepOutcome:
        attempts.append(step.attempts)
        try:
            step.memo.call("note", lambda: b"x")
        except SimulatedCrash:
            return Succeed(b"got away")
        return Succeed(b"noted")

    with taquba_crash_at(point):
        assert taquba_run(run_step, b"").result == b"noted"
    assert attempts == [1, 2]


@pytest.mark.parametrize("name", ["memo", "run_memo"])
@pytest.mark.parametrize(("point", "again"), [("inside-once", 2), ("after-once", 1)])
def test_notes_of_every_kind_are_points(
    taquba_run: RunToEnd, taquba_crash_at: CrashAt, name: str, point: str, again: int
) -> None:
    puts: list[bytes] = []

    def run_step(step: RawStep) -> StepOutcome:
        memo = getattr(step, name)
        if memo.get("note") is None:
            puts.append(b"x")
            memo.put("note", b"x")
        return Succeed()

    with taquba_crash_at(point):
        taquba_run(run_step, b"")
    assert len(puts) == again


def test_the_calls_of_a_durable_function_are_points(taquba_run: RunToEnd, taquba_crash_at: CrashAt) -> None:
    flow = Flow[Order, int]("invoices")
    calls: list[int] = []

    def number(value: int) -> int:
        calls.append(value)
        return value

    @flow.durable
    def invoice(order: Order, do: Do) -> int:
        return do(number, 1) + do(number, 2)

    with taquba_crash_at("after-once", nth=2):
        assert taquba_run(flow, Order(1)).result == 3
    assert calls == [1, 2]


def test_members_of_a_group_are_cut_as_well(taquba_run: RunToEnd, taquba_crash_at: CrashAt) -> None:
    flow = Flow[int, int]("numbers")

    @flow.start
    def begin(number: int, step: Step) -> Goto | int:
        if number < 10:
            return number
        step.effects.submit_group("digits", [flow.spec(each, run_id=f"digit-{each}") for each in (1, 2)])
        return add.on_group(None, "digits")

    @flow.step
    def add(state: None, step: Step) -> int:
        assert step.group is not None
        return sum(flow.result_of(each) for each in step.group.results().results if each)

    with taquba_crash_at("after-runner") as crashes:
        assert taquba_run(flow, 10, run_id="all").result == 3
    assert sorted(crashes.cut) == ["all: add", "all: begin", "digit-1: begin", "digit-2: begin"]


@pytest.mark.parametrize(("point", "error"), [("after-onse", ValueError), (5, TypeError), (None, TypeError)])
def test_a_point_that_is_none_is_refused(taquba_crash_at: CrashAt, point: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="point"):
        with taquba_crash_at(point):
            raise AssertionError("never here")
    with pytest.raises(ValueError, match="nth"):
        with taquba_crash_at("after-once", nth=0):
            raise AssertionError("never here")
