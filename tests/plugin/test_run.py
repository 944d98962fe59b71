"""A run is run to its end, over whatever it waits for, and its end is told as it was."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import (
    Continue,
    ContinueAfter,
    ContinueOnGroup,
    ContinueOnSignal,
    Effects,
    Queue,
    QueueConfig,
    RunOutcome,
    RunSpec,
    StepError,
    StepOutcome,
    Succeed,
    TerminalStatus,
    WorkflowClient,
)
from taquba_workflow_sync import Step as RawStep
from taquba_workflow_sync.testing import ManualClock, RecordingHook, RunToEnd, run_to_end

pytest.importorskip("msgspec")

from taquba_workflow_sync.flow import Cancel, Fail, Flow, Goto, Step


@dataclass
class Order:
    id: int


def answering(answer: Any, *, attempts: int | None = None) -> Flow[Order, str]:
    """Return a flow of one step, which returns or raises the answer."""
    flow = Flow[Order, str]("orders")

    @flow.start(max_attempts=attempts)
    def only(order: Order) -> str | Fail | Cancel:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]  # what the test says

    return flow


@pytest.mark.parametrize(
    ("answer", "status", "result", "error"),
    [
        ("done", "succeeded", "done", None),
        (Fail("no"), "failed", None, "no"),
        (Cancel("not now"), "cancelled", None, "not now"),
        (StepError.permanent("gone"), "failed", None, "gone"),
        (OSError("away"), "failed", None, "OSError: away"),
    ],
)
def test_every_end_is_an_outcome(
    taquba_run: RunToEnd, answer: Any, status: str, result: str | None, error: str | None
) -> None:
    outcome = taquba_run(answering(answer), Order(1))

    assert (outcome.status, outcome.result, outcome.error) == (TerminalStatus(status), result, error)
    assert outcome.run.run_id == outcome.run_id


def test_time_moves_to_what_is_due_and_no_further(taquba_run: RunToEnd, taquba_clock: ManualClock) -> None:
    flow = Flow[Order, str]("orders")

    @flow.start
    def begin(order: Order) -> Goto:
        return end.goto(order, after=timedelta(days=3))

    @flow.step(max_attempts=3, backoff=(60, 600))
    def end(order: Order, step: Step) -> str:
        if step.attempts < 3:
            raise OSError("not yet")
        return f"at attempt {step.attempts}"

    before = taquba_clock.now()
    outcome = taquba_run(flow, Order(1))

    assert outcome.result == "at attempt 3"
    assert taquba_clock.now() - before == timedelta(days=3, seconds=60 + 120)


def waiting(timeout: float | None = None) -> Flow[Order, list[int]]:
    """Return a flow that asks for the signal ``item`` twice."""
    flow = Flow[Order, list[int]]("orders")

    @flow.start
    def ask(order: Order) -> Goto:
        return take.on_signal([], "item", timeout=timeout)

    @flow.step
    def take(items: list[int], step: Step) -> Goto | list[int]:
        item = step.signal_as(int)
        if item is None:
            return items
        items.append(item)
        return take.on_signal(items, "item", timeout=timeout)

    return flow


def test_signals_are_there_when_the_run_asks(taquba_run: RunToEnd, taquba_clock: ManualClock) -> None:
    before = taquba_clock.now()

    assert taquba_run(waiting(timeout=60), Order(1), signals={"item": 5}).result == [5]
    assert taquba_clock.now() - before == timedelta(seconds=60)
    assert taquba_run(waiting(timeout=60), Order(1), signals=[("item", 5), ("item", 6)]).result == [5, 6]


def test_a_deadline_comes_when_nothing_else_does(taquba_run: RunToEnd, taquba_clock: ManualClock) -> None:
    before = taquba_clock.now()
    outcome = taquba_run(waiting(), Order(1), deadline=timedelta(hours=2))

    assert outcome.status == "failed" and "deadline" in (outcome.error or "").lower()
    assert taquba_clock.now() - before == timedelta(hours=2)


def test_a_rate_limit_lets_the_run_pass_when_it_has_room(
    taquba_run: RunToEnd, taquba_queue: Queue, taquba_clock: ManualClock
) -> None:
    flow = Flow[Order, str]("orders")

    @flow.start
    def begin(order: Order) -> Goto:
        return end.goto(order)

    @flow.step
    def end(order: Order) -> str:
        return "done"

    flow.client(taquba_queue).set_limit(key="carrier", rate=(1, 60))
    before = taquba_clock.now()

    assert taquba_run(flow, Order(1), limit_key="carrier").result == "done"
    assert taquba_clock.now() - before == timedelta(seconds=60)


def test_a_run_that_nothing_brings_on_is_an_error_that_says_what_it_waits_for(taquba_run: RunToEnd) -> None:
    with pytest.raises(AssertionError, match=r"waits for signal:item; give it by signals=\{'item': value\}"):
        taquba_run(waiting(), Order(1))
    with pytest.raises(AssertionError, match=r"given: itme"):
        taquba_run(waiting(), Order(1), signals={"itme": 5})


def test_a_paused_queue_is_an_error_that_says_so(taquba_run: RunToEnd, taquba_queue: Queue) -> None:
    flow = answering("done")
    flow.client(taquba_queue).pause()

    with pytest.raises(AssertionError, match="paused"):
        taquba_run(flow, Order(1))


def test_a_run_that_goes_on_for_ever_is_an_error(taquba_run: RunToEnd) -> None:
    flow = Flow[Order, str]("orders")

    @flow.start
    def poll(order: Order) -> Goto:
        return poll.goto(order, after=60)

    with pytest.raises(TimeoutError, match="goes on for ever"):
        taquba_run(flow, Order(1), timeout=0.2)


def test_a_step_that_does_not_return_holds_up_nothing_but_itself(taquba_run: RunToEnd) -> None:
    may_return = threading.Event()
    flow = Flow[Order, str]("orders")

    @flow.start
    def hang(order: Order) -> str:
        may_return.wait(60)
        return "at last"

    with pytest.raises(TimeoutError, match="does not return"):
        taquba_run(flow, Order(1), timeout=0.1)
    may_return.set()


def test_the_members_of_a_group_run_as_well(taquba_run: RunToEnd, taquba_clock: ManualClock) -> None:
    flow = Flow[int, int]("numbers")

    @flow.start
    def begin(number: int, step: Step) -> Goto | int:
        if number < 10:
            return wait.goto(number, after=60 * number)
        step.effects.submit_group("digits", [flow.spec(each) for each in (1, 2, 3)])
        return add.on_group(None, "digits")

    @flow.step
    def wait(number: int) -> int:
        return number

    @flow.step
    def add(state: None, step: Step) -> int:
        assert step.group is not None
        return sum(flow.result_of(each) for each in step.group.results().results if each)

    before = taquba_clock.now()
    assert taquba_run(flow, 10).result == 6
    assert taquba_clock.now() - before == timedelta(seconds=180)


def test_a_run_may_wait_for_runs_of_another_flow_that_is_served_as_well(taquba_run: RunToEnd) -> None:
    words = Flow[str, str]("words")
    flow = Flow[Order, str]("orders")

    @words.start
    def shout(word: str) -> str:
        return word.upper()

    @flow.start
    def begin(order: Order, step: Step) -> Goto:
        step.effects.submit_group("words", [words.spec("a"), words.spec("b")], queue_name="words")
        return join.on_group(None, "words")

    @flow.step
    def join(state: None, step: Step) -> str:
        assert step.group is not None
        return "".join(words.result_of(each) for each in step.group.results().results if each)

    assert taquba_run(flow, Order(1), also=[words], run_id="served").result == "AB"


def test_a_group_whose_flow_is_not_served_is_an_error_that_says_so(taquba_run: RunToEnd) -> None:
    def run_step(step: RawStep) -> StepOutcome:
        step.effects.submit_group("others", [RunSpec()], queue_name="elsewhere")
        return ContinueOnGroup(b"", "others")

    with pytest.raises(AssertionError, match=r"group:others.*also="):
        taquba_run(run_step, b"")


def test_a_runner_of_bytes_is_run_as_well(taquba_run: RunToEnd) -> None:
    def run_step(step: RawStep) -> StepOutcome:
        if step.step_number == 0:
            return ContinueAfter(step.payload, 3_600)
        if step.step_number == 1:
            return ContinueOnSignal(step.payload, "go")
        assert step.signal is not None
        return Succeed(step.payload + step.signal.payload)

    outcome = taquba_run(run_step, b"ready, ", signals={"go": b"go"}, run_id="race")

    assert (outcome.run_id, outcome.result) == ("race", b"ready, go")


def test_a_run_may_begin_with_any_step_of_a_flow(taquba_run: RunToEnd) -> None:
    flow = Flow[Order, str]("orders")

    @flow.start
    def charge(order: Order) -> Goto:
        raise AssertionError("not this one")

    @flow.step
    def ship(order: Order, step: Step) -> Goto:
        return tell.on_signal(order.id, "told")

    @flow.step
    def tell(number: int, step: Step) -> str:
        return f"{number} {step.signal_as(str)}"

    assert taquba_run(ship, Order(7), signals={"told": "yes"}).result == "7 yes"


def test_a_run_of_a_name_is_one_run(taquba_run: RunToEnd) -> None:
    calls: list[int] = []
    flow = Flow[Order, str]("orders")

    @flow.start
    def count(order: Order) -> str:
        calls.append(order.id)
        return "done"

    first, second = (taquba_run(flow, Order(1), run_id="order-1") for _ in range(2))
    assert (first.run.job_id, first.result) == (second.run.job_id, second.result) and calls == [1]


def test_a_run_that_is_not_kept_has_an_outcome_all_the_same(taquba_run: RunToEnd) -> None:
    flow = Flow[Order, str]("orders", keep_runs=None)

    @flow.start
    def only(order: Order) -> str:
        return "done"

    assert taquba_run(flow, Order(1)).result == "done"


def test_the_hook_is_told_of_every_run_and_so_is_that_of_the_flow(
    taquba_run: RunToEnd, taquba_hook: RecordingHook, taquba_queue: Queue
) -> None:
    flow = answering("done")
    tries: list[str] = []

    @flow.on_end
    def tell(outcome: RunOutcome, effects: Effects) -> None:
        tries.append(outcome.run_id)
        effects.add("told", 1)
        if len(tries) == 1:
            raise OSError("a hook that fails is called again")

    taquba_run(flow, Order(1), run_id="a")

    assert tries == ["a", "a"] and taquba_queue.kv.get("told") == b"1"
    assert [each.run_id for each in taquba_hook.outcomes] == ["a"]


def test_flows_work_on_the_tests_store_in_steps_and_hooks_wherever_they_are_bound(
    taquba_run: RunToEnd, taquba_queue: Queue
) -> None:
    flow = Flow[Order, str]("orders")

    @flow.start
    def begin(order: Order, step: Step) -> str | Goto:
        flow.signal(step.run_id, "from the step", 1)
        return end.on_signal(order, "from the step")

    @flow.step
    def end(order: Order) -> str:
        return "done"

    @flow.on_end
    def again(outcome: RunOutcome) -> None:
        flow.submit(Order(2), run_id="by-the-hook")

    with Queue.temporary() as real:
        flow.bind(real)
        assert taquba_run(flow, Order(1)).result == "done"
        assert real.list_queues() == []
    assert flow.handle("by-the-hook", queue=taquba_queue).status() is not None


def test_what_a_run_has_submitted_is_done_as_far_as_no_time_has_to_pass(
    taquba_run: RunToEnd, taquba_hook: RecordingHook, taquba_clock: ManualClock
) -> None:
    def run_step(step: RawStep) -> StepOutcome:
        if step.run_id == "parent":
            step.effects.submit(RunSpec(run_id="now"))
            step.effects.submit(RunSpec(run_id="later", run_at=taquba_clock.now() + timedelta(days=1)))
        return Succeed()

    before = taquba_clock.now()
    taquba_run(run_step, b"", run_id="parent")

    assert {each.run_id for each in taquba_hook.outcomes} == {"parent", "now"}
    assert taquba_clock.now() == before


def test_the_store_lies_in_the_tests_directory_and_reads_the_tests_clock(
    taquba_queue: Queue, taquba_clock: ManualClock, tmp_path: Path
) -> None:
    handle = WorkflowClient(taquba_queue).submit()
    status = handle.status()

    assert taquba_queue.path.parent == tmp_path
    assert status is not None and status.submitted_at == taquba_clock.now()


def test_what_cannot_be_run_is_refused_before_anything_is_written(taquba_queue: Queue, taquba_run: RunToEnd) -> None:
    flow = answering("done")
    with pytest.raises(TypeError, match=r"order\.id"):
        taquba_run(flow, Order("x"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="signals must be"):
        taquba_run(flow, Order(1), signals="go")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ManualClock"):
        run_to_end(taquba_queue, object(), flow, Order(1))  # type: ignore[arg-type]

    assert taquba_queue.list_queues() == []


def test_a_store_with_settings_of_its_own_is_run_on_as_well() -> None:
    clock = ManualClock()
    seen: list[int] = []

    def run_step(step: RawStep) -> StepOutcome:
        seen.append(step.max_attempts)
        return Continue() if step.step_number == 0 else Succeed(b"x")

    with Queue.temporary(clock=clock, default_config=QueueConfig(max_attempts=7)) as queue:
        assert run_to_end(queue, clock, run_step, b"").result == b"x"
    assert seen == [7, 7]
