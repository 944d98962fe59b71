"""What a step of a flow is given, what it may return and raise, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from taquba_workflow_sync import (
    EventKind,
    Queue,
    QueueConfig,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    StepError,
    WorkflowRuntime,
)
from taquba_workflow_sync import Step as StepOfRuntime
from taquba_workflow_sync.flow import Cancel, Fail, Flow, Goto, Step
from taquba_workflow_sync.testing import ManualClock


@dataclass
class Order:
    id: int
    email: str


WRONG: Any = 5


def run_one(queue: Queue, flow: Flow[Any, Any], state: Any = None, **fields: Any) -> Any:
    """Run a flow's run to its end, over every delay, and return its handle."""
    handle = flow.submit(state, queue=queue, **fields)
    WorkflowRuntime(queue, flow).run_until_idle()
    return handle


def error_of(handle: Any) -> str:
    with pytest.raises(RunFailedError) as caught:
        handle.result(0)
    return str(caught.value.outcome.error)


def test_a_function_takes_nothing_its_state_or_that_and_the_step(queue: Queue) -> None:
    flow = Flow[None, str]("arguments")

    @flow.start
    def nothing() -> Goto:
        return state.goto(5)

    @flow.step
    def state(number: int) -> Goto:
        return both.goto(number + 1)

    @flow.step
    def both(number: int, step: Step) -> Goto:
        return none.goto() if step.step_number == 2 and number == 6 else none.goto(after=1)

    @flow.step
    def none() -> str:
        return "end"

    assert run_one(queue, flow).result(0) == "end"


def test_a_step_is_stored_by_name_with_what_it_was_given(queue: Queue) -> None:
    flow = Flow[int, str]("settings")
    seen: list[tuple[str | None, int]] = []

    @flow.start(max_attempts=7, priority=5, backoff=(1, 2), timeout=60)
    def first(number: int, step: Step) -> Goto:
        seen.append((step.label, step.max_attempts))
        return second.goto(number)

    @flow.step(name="the second", max_attempts=4)
    def second(number: int, step: Step) -> Goto:
        seen.append((step.label, step.max_attempts))
        return third.goto(number)

    @flow.step
    def third(number: int, step: Step) -> Goto | str:
        seen.append((step.label, step.max_attempts))
        return fourth.on_signal(number, "go", timeout=0)

    @flow.step
    def fourth(number: int, step: Step) -> str:
        seen.append((step.label, step.max_attempts))
        return "end"

    assert run_one(queue, flow, 1).result(0) == "end"
    default = QueueConfig().max_attempts
    assert seen == [("first", 7), ("the second", 4), ("third", default), ("fourth", default)]


def test_what_a_submit_says_holds_for_every_step_that_says_nothing_itself(queue: Queue) -> None:
    flow = Flow[int, str]("settings")
    seen: list[int] = []

    @flow.start(max_attempts=7)
    def first(number: int, step: Step) -> Goto:
        seen.append(step.max_attempts)
        return second.goto(number)

    @flow.step
    def second(number: int, step: Step) -> str:
        seen.append(step.max_attempts)
        return ""

    run_one(queue, flow, 1, max_attempts_per_step=9)
    assert seen == [7, 9]
    seen.clear()
    run_one(queue, flow, 1)
    assert seen == [7, QueueConfig().max_attempts]


SAID: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"priority": 5}, {"priority": 0}, {"priority": 0}),
    ({"priority": 5}, {"priority": -3}, {"priority": -3}),
    ({"priority": 5}, {}, {"priority": QueueConfig().default_priority}),
    ({"timeout": 5}, {"step_timeout": timedelta(hours=1)}, {"step_timeout": timedelta(hours=1)}),
    ({"timeout": 5}, {"step_timeout": 1.5}, {"step_timeout": timedelta(seconds=1.5)}),
    ({"timeout": 5}, {}, {"step_timeout": timedelta(days=3650)}),
    ({"backoff": (1, 2)}, {"backoff": (0, timedelta(minutes=2))}, {"backoff": (timedelta(0), timedelta(minutes=2))}),
    (
        {"max_attempts": 2, "backoff": (1, 2), "priority": 5, "timeout": 5},
        {"max_attempts_per_step": 9, "priority": 7},
        {"max_attempts": 9, "backoff": (QueueConfig().retry_backoff_base, QueueConfig().retry_backoff_max),
         "priority": 7},
    ),
    ({}, {"priority": 0, "max_attempts_per_step": 9}, {"priority": None, "max_attempts": None}),
]  # fmt: skip


@pytest.mark.parametrize(("of_start", "of_submit", "of_second"), SAID, ids=str)
def test_what_a_start_says_itself_it_has_alone_and_the_submit_is_for_the_others(
    queue: Queue, of_start: dict[str, Any], of_submit: dict[str, Any], of_second: dict[str, Any]
) -> None:
    flow = Flow[int, str]("settings")
    outcomes: list[Any] = []

    @flow.start(**of_start)
    def first(number: int) -> Goto:
        return (second, third)[number].goto(number)

    @flow.step
    def second(number: int) -> str:
        return ""

    @flow.step(max_attempts=3, priority=4, backoff=(5, 6), timeout=7)
    def third(number: int) -> str:
        return ""

    def noting(step: StepOfRuntime) -> Any:
        outcomes.append(flow.run_step(step))
        return outcomes[-1]

    for number in (0, 1):
        spec = flow.spec(number, **of_submit)
        for name, value in of_start.items():
            of_run = {"max_attempts": "max_attempts_per_step", "timeout": "step_timeout"}.get(name, name)
            assert getattr(spec, of_run) == value
        flow.client(queue).submit(spec)
        WorkflowRuntime(queue, noting, queue_name=flow.name).run_until_idle()
    plain, _, own, _ = outcomes
    assert {name: getattr(plain, name) for name in of_second} == of_second
    assert (own.max_attempts, own.priority, own.backoff, own.step_timeout) == (3, 4, (5, 6), 7)


def test_a_goto_waits_for_a_time_a_signal_or_a_group(clock: ManualClock, queue: Queue) -> None:
    flow = Flow[int, str]("waits")

    @flow.start
    def first(number: int) -> Goto:
        return second.goto(number, after=timedelta(hours=1))

    @flow.step
    def second(number: int, step: Step) -> Goto:
        step.effects.submit_group("both", [members.spec(each) for each in (1, 2)], queue_name=members.name)
        return third.on_group(number, "both")

    @flow.step
    def third(number: int, step: Step) -> Goto:
        assert step.group is not None
        outcomes = step.group.results().results
        doubled = sum(members.result_of(each) for each in outcomes if each is not None)
        return fourth.on_signal(number + doubled, "approved", timeout=3600)

    @flow.step
    def fourth(number: int, step: Step) -> str:
        approval = step.signal_as(Order)
        return f"{number} {step.wait_timed_out} {approval}"

    members = Flow[int, int]("members")

    @members.start
    def double(number: int) -> int:
        return 2 * number

    runtime = WorkflowRuntime(queue, [flow, members])
    handle = flow.submit(1, run_id="x", queue=queue)
    assert runtime.run_until_idle().steps == 1
    clock.advance(3600)
    runtime.run_until_idle()
    status = handle.status()
    assert status is not None and status.waiting_for == "signal:approved"
    flow.signal("x", "approved", Order(1, "ada"), queue=queue)
    runtime.run_until_idle()
    assert handle.result(0) == "7 False Order(id=1, email='ada')"


def test_a_signal_that_does_not_fit_fails_the_step_for_good_naming_its_path(queue: Queue) -> None:
    flow = Flow[int, str]("signals")

    @flow.start
    def first(number: int) -> Goto:
        return second.on_signal(number, "approved")

    @flow.step
    def second(number: int, step: Step) -> str:
        return str(step.signal_as(Order))

    handle = flow.submit(1, run_id="x", queue=queue)
    WorkflowRuntime(queue, flow).run_until_idle()
    with pytest.raises(TypeError, match=r"^approved\.email: expected str, got int"):
        flow.signal("x", "approved", Order(1, 5), queue=queue)  # type: ignore[arg-type]  # that is what is tried
    flow.signal("x", "approved", {"id": "one"}, queue=queue)
    WorkflowRuntime(queue, flow).run_until_idle()
    assert error_of(handle) == "signal 'approved' does not fit: approved.id: expected int, got str"


def returns(queue: Queue, value: Any, annotation: Any) -> Any:
    flow = Flow[int, annotation]("returns")

    def step(number: int) -> Any:
        return value

    step.__annotations__["return"] = Goto | Fail | annotation
    flow.start(step)
    return run_one(queue, flow, 1)


@pytest.mark.parametrize(
    ("value", "annotation", "error"),
    [
        (None, str, "step 'step' returned None (is a return missing?); its annotation says Goto | Fail | str"),
        (5, str, "step 'step' returned int; its annotation says Goto | Fail | str: result: expected str, got int"),
        (Cancel("no"), str, "step 'step' returned Cancel; its annotation says Goto | Fail | str"),
        ("x", type(None), "step 'step' returned str; its annotation says Goto | Fail | None"),
        (Order(1, WRONG), Order, "step 'step' returned Order; its annotation says Goto | Fail | Order: result.email: "
         "expected str, got int"),
        (StepError.permanent("x"), str, "step 'step' returned StepError; its annotation says Goto | Fail | str: result:"
         " a StepError cannot be stored as JSON"),
    ],
)  # fmt: skip
def test_what_the_annotation_does_not_say_is_a_permanent_failure(
    queue: Queue, value: Any, annotation: Any, error: str
) -> None:
    handle = returns(queue, value, annotation)
    assert error_of(handle) == error
    assert [event.attempt for event in handle.history() if event.kind is EventKind.ENDED] == [1]


@pytest.mark.parametrize(
    ("value", "annotation"),
    [(None, str | None), (None, None), (Order(1, "x"), Order), (0, int), ([], list[int]), ({"a": 1}, dict[str, int])],
)
def test_what_the_annotation_says_is_the_result(queue: Queue, value: Any, annotation: Any) -> None:
    assert returns(queue, value, annotation).result(0) == value


def test_a_verdict_ends_the_run(queue: Queue) -> None:
    flow = Flow[bool, str]("verdicts")

    @flow.start
    def first(fails: bool) -> Fail | Cancel:
        return Fail("no") if fails else Cancel("not wanted")

    assert error_of(run_one(queue, flow, True)) == "no"
    with pytest.raises(RunCancelledError, match="not wanted"):
        run_one(queue, flow, False).result(0)


def test_a_state_that_does_not_fit_is_a_permanent_failure_of_the_step_that_says_it(queue: Queue) -> None:
    flow = Flow[int, str]("bad states")

    @flow.start
    def first(number: int) -> Goto:
        return second.goto(Order(number, 5))  # type: ignore[arg-type]  # that is what is tried

    @flow.step
    def second(order: Order) -> str:
        return ""

    handle = run_one(queue, flow, 1)
    assert error_of(handle) == "TypeError: order.email: expected str, got int"
    status = handle.status()
    assert status is not None and status.label == "first"


def test_a_goto_to_another_flow_is_a_permanent_failure(queue: Queue) -> None:
    flow, other = Flow[int, str]("one"), Flow[int, str]("other")

    @other.start
    def elsewhere(number: int) -> str:
        return ""

    @flow.start
    def first(number: int) -> Goto:
        return elsewhere.goto(number)

    assert "went to step 'elsewhere' of 'other'" in error_of(run_one(queue, flow, 1))


class BadAddress(OSError):
    pass


@pytest.mark.parametrize(
    ("raised", "options", "is_retried"),
    [
        (OSError("x"), {}, True),
        (KeyError("x"), {}, True),
        (OSError("x"), {"retry_on": (OSError,)}, True),
        (KeyError("x"), {"retry_on": OSError}, False),
        (BadAddress("x"), {"retry_on": (OSError,)}, True),
        (BadAddress("x"), {"retry_on": (OSError,), "fail_on": (BadAddress,)}, False),
        (BadAddress("x"), {"fail_on": BadAddress}, False),
        (OSError("x"), {"fail_on": (BadAddress,)}, True),
        (StepError.transient("x"), {"retry_on": (OSError,)}, True),
        (StepError.permanent("x"), {"retry_on": (OSError,)}, False),
        (StepError.transient("x"), {"fail_on": (StepError,)}, False),
        (RunNotFoundError("x"), {}, False),
        (RunNotFoundError("x"), {"retry_on": (RunNotFoundError,)}, True),
    ],
    ids=str,
)
def test_which_exceptions_are_worth_a_retry(
    queue: Queue, raised: Exception, options: dict[str, Any], is_retried: bool
) -> None:
    flow = Flow[int, str]("errors")

    @flow.start(max_attempts=2, backoff=(0, 0), **options)
    def first(number: int) -> str:
        raise raised

    handle = run_one(queue, flow, 1)
    assert "x" in error_of(handle)
    assert len([event for event in handle.history() if event.kind is EventKind.ENDED]) == 1 + is_retried


def test_a_call_that_was_noted_is_not_made_again_and_comes_back_typed(queue: Queue) -> None:
    flow = Flow[int, str]("once")
    calls: list[str] = []

    def order_of(number: int, *, email: str) -> Order:
        calls.append(email)
        return Order(number, email)

    def untyped(number):  # type: ignore[no-untyped-def]
        return {"pair": (number, number)}

    @flow.start(backoff=(0, 0))
    def first(number: int, step: Step) -> str:
        order = step.once("order", order_of, number, email="a@b.c")
        pair = step.once("pair", untyped, number)
        if step.attempts == 1:
            raise OSError
        return f"{order} {pair} {step.once('int', int, '7')}"

    assert run_one(queue, flow, 1).result(0) == "Order(id=1, email='a@b.c') {'pair': [1, 1]} 7"
    assert calls == ["a@b.c"]


def test_a_call_that_returns_what_its_annotation_does_not_say_is_not_noted() -> None:
    def wrong() -> str:
        return 5  # type: ignore[return-value]  # that is what is tried

    flow = Flow[int, str]("once")

    @flow.start
    def first(number: int, step: Step) -> str:
        with pytest.raises(TypeError, match=r"wrong: expected str, got int"):
            step.once("wrong", wrong)
        return str(step.memo.get("wrong"))

    assert first.test(1) == "None"


def test_a_step_is_still_its_function_and_its_gotos_compare() -> None:
    flow = Flow[int, str]("functions")

    @flow.start
    def first(number: int) -> Goto:
        """Say what it does."""
        return second.goto(Order(number, "x"), after=5)

    @flow.step
    def second(order: Order, step: Step) -> str:
        return order.email

    assert first(1) == second.goto(Order(1, "x"), after=5)
    assert first(1) != second.goto(Order(1, "x")) and first(1) != second.goto(Order(2, "x"), after=5)
    assert first(1) != second.on_signal(Order(1, "x"), "a") != second.on_signal(Order(1, "x"), "b")
    assert first.__doc__ == "Say what it does." and first.__name__ == "first"
    assert repr(first(1)) == "second.goto(Order(id=1, email='x'), after=5)"
    with pytest.raises(TypeError, match=r"order\.email: expected str"):
        second.goto(Order(1, 5))  # type: ignore[arg-type]  # that is what is tried
    with pytest.raises(ValueError, match="delay"):
        second.goto(Order(1, "x"), after=-1)


def test_gotos_are_equal_that_wait_equally_long_for_the_same() -> None:
    flow = Flow[int, str]("waits")

    @flow.start
    def first(number: int) -> str:
        return ""

    different = [
        first.goto(1), first.goto(1, after=0), first.goto(1, after=60), first.goto(1, after=61),
        first.on_signal(1, "a"), first.on_signal(1, "a", timeout=60), first.on_signal(1, "a", timeout=0),
        first.on_group(1, "a"), first.on_group(1, "a", timeout=60), first.on_group(1, "b"),
    ]  # fmt: skip
    for index, each in enumerate(different):
        assert [each == other for other in different] == [index == number for number in range(len(different))]
    assert len(set(different)) == len(different)
    minute = timedelta(minutes=1)
    for one, other in (
        (first.goto(1, after=60), first.goto(1, after=minute)),
        (first.on_signal(1, "a", timeout=60.0), first.on_signal(1, "a", timeout=minute)),
        (first.on_group(1, "a", timeout=60), first.on_group(1, "a", timeout=minute)),
    ):
        assert one == other and hash(one) == hash(other)
    assert first.goto(1) != "first.goto(1)"


def test_a_step_is_tried_as_a_worker_would_run_it_without_a_store() -> None:
    flow = Flow[int, str]("trials")

    @flow.start(retry_on=(OSError,))
    def first(number: int, step: Step) -> Goto | str | Fail:
        if number == 1:
            return second.goto(Order(number, step.run_id))
        if number == 2:
            raise KeyError(number)
        if number == 3:
            return None  # type: ignore[return-value]  # that is what is tried
        return f"{step.attempts} {step.is_last_attempt} {step.once('x', str, number)} {step.signal_as(Order)}"

    @flow.step
    def second(order: Order) -> str:
        return order.email

    assert first.test(1) == second.goto(Order(1, "test"))
    assert first.test(4, attempts=3, signal=Order(1, "x")) == "3 True 4 Order(id=1, email='x')"
    for number, error in ((2, "KeyError: 2"), (3, "is a return missing")):
        with pytest.raises(StepError, match=error) as caught:
            first.test(number)
        assert caught.value.is_permanent
    with pytest.raises(TypeError, match="number: expected int, got str"):
        first.test("one")  # type: ignore[call-overload]  # that is what is tried


def test_a_flow_is_a_runner(queue: Queue) -> None:
    flow = Flow[int, int]("runner")

    @flow.start
    def double(number: int) -> int:
        return 2 * number

    class Wrapping:
        def run_step(self, step: StepOfRuntime) -> Any:
            return flow.run_step(step)

    runtime = WorkflowRuntime(queue, Wrapping(), queue_name=flow.name)
    handle = flow.submit(4, queue=queue)
    runtime.run_until_idle()
    assert handle.result(0) == 8


def test_schedules_and_groups_take_states(clock: ManualClock, queue: Queue) -> None:
    flow = Flow[Order, str]("typed", version=3)

    @flow.start
    def first(order: Order) -> str:
        return order.email

    flow.bind(queue)
    flow.schedule("often", Order(1, "scheduled"), every=60)
    group = flow.submit_group("all", [Order(1, "a"), flow.spec(Order(2, "b"), run_id="b")])
    with pytest.raises(TypeError, match=r"order\.email: expected str"):
        flow.schedule("wrong", Order(1, 5), every=60)  # type: ignore[arg-type]  # that is what is tried
    with pytest.raises(TypeError, match=r"order\.email: expected str"):
        flow.submit_group("wrong", [Order(1, "x"), Order(1, 5)])  # type: ignore[arg-type]  # as above
    clock.advance(60)
    runtime = WorkflowRuntime(queue, flow)
    runtime.run_until_idle()
    assert [flow.result_of(each) for each in group.results().results if each] == ["a", "b"]
    runs = flow.client().list_runs(prefix="often-").runs
    assert [flow.handle(run.run_id).result(0) for run in runs] == ["scheduled"]
    assert [schedule.name for schedule in flow.client().schedules()] == ["often"]
