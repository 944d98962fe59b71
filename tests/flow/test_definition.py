"""What cannot run as a flow is refused where it is decorated, or at the first submit, naming the function and why."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from taquba_workflow_sync import InvalidNameError, Queue, WorkflowRuntime
from taquba_workflow_sync.flow import Cancel, Do, Fail, Flow, FlowDefinitionError, Goto, Step

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers


@dataclass
class One:
    a: int


@dataclass
class Two:
    b: int


def flow() -> Flow[Any, Any]:
    return Flow[int, str]("numbers")


class Methods:
    def method(self, number: int) -> str:
        return ""

    @staticmethod
    def static(number: int) -> str:
        return ""


def of_three(number: int, step: Step, more: int) -> str:
    return ""


def of_many(number: int, *others: int) -> str:
    return ""


def of_keyword(number: int, *, more: int) -> str:
    return ""


async def asynchronous(number: int) -> str:
    return ""


def generator(number: int) -> Iterator[str]:
    yield ""


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (Methods.method, "Methods.method is a method"),
        (Methods.static, "Methods.static is a method"),
        (Methods().method, "is a method; a step is a plain function"),
        (lambda number: "", "has no name"),
        (of_three, "of_three takes number, step, more; it may take nothing, its state, or its state and the step"),
        (of_many, r"of_many has the parameter \*others"),
        (of_keyword, "of_keyword has the parameter more"),
        (asynchronous, "asynchronous is async"),
        (generator, "generator is a generator"),
        (len, "len is a builtin_function_or_method"),
        (functools.partial(of_three, 1), "is a partial"),
        (5, "5 is a int"),
    ],
)
def test_what_is_no_plain_function_is_refused_at_decoration(function: Any, why: str) -> None:
    with pytest.raises(FlowDefinitionError, match=why):
        flow().step(function)


def says_nothing_of_its_state(number) -> str:  # type: ignore[no-untyped-def]
    return ""


def says_nothing_of_its_end(number: int):  # type: ignore[no-untyped-def]
    return ""


def of_a_union(state: One | Two) -> str:
    return ""


def of_objects(state: Callable[[], int]) -> str:
    return ""


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (says_nothing_of_its_state, "says_nothing_of_its_state does not say the type of number"),
        (says_nothing_of_its_end, "says_nothing_of_its_end does not say what it returns"),
        (of_a_union, "of_a_union: .*tag=True"),
        (of_objects, "of_objects: .*cannot be stored as JSON"),
    ],
)
def test_annotations_that_are_wrong_whatever_comes_are_refused_at_decoration(
    function: Callable[..., Any], why: str
) -> None:
    with pytest.raises(FlowDefinitionError, match=why):
        flow().step(function)


def test_annotations_may_name_what_is_defined_below_and_locals_of_the_function(queue: Queue) -> None:
    numbers = Flow["Local", str]("numbers")

    @numbers.start
    def first(state: Local) -> Goto:
        return second.goto(Below(state, [state]))

    @numbers.step
    def second(state: Below) -> str:
        return f"{state.inner.many} {state.others}"

    @dataclass
    class Below:
        inner: Local
        others: list[Local]

    @dataclass
    class Local:
        many: int

    handle = numbers.submit(Local(3), queue=queue)
    WorkflowRuntime(queue, numbers).run_until_idle()
    assert handle.result(0).startswith("3 [") and handle.result(0).endswith("Local(many=3)]")


def test_an_annotation_that_is_for_type_checkers_alone_is_refused_at_the_first_submit_the_start_and_by_check(
    queue: Queue,
) -> None:
    numbers = flow()

    @numbers.start
    def first(number: int) -> Goto:
        return second.goto(OnlyForCheckers(number))

    @numbers.step
    def second(number: OnlyForCheckers) -> str:
        return ""

    for use in (
        numbers.check,
        lambda: numbers.submit(1, queue=queue),
        WorkflowRuntime(queue, numbers).run_until_idle,
        WorkflowRuntime(queue, [numbers]).start,
    ):
        with pytest.raises(FlowDefinitionError, match=r"second: .*'OnlyForCheckers'"):
            use()
    assert queue.list_queues() == []


def test_steps_are_told_apart_by_name() -> None:
    numbers = flow()
    numbers.step(name="send", formerly=("mail",))(typed("one"))
    for taken in ({"name": "send"}, {"name": "mail"}, {"formerly": ("send",)}):
        with pytest.raises(FlowDefinitionError, match=r"has a step '(send|mail)' already"):
            numbers.step(**taken)(typed("two"))
    assert numbers.steps == ("send",)


def typed(name: str) -> Callable[[int], str]:
    def function(number: int) -> str:
        return ""

    function.__name__ = name
    return function


def test_a_flow_has_one_start() -> None:
    numbers = flow()
    with pytest.raises(FlowDefinitionError, match="has no start"):
        numbers.check()
    numbers.start(typed("one"))
    with pytest.raises(FlowDefinitionError, match="starts with"):
        numbers.start(typed("two"))


def test_a_start_takes_what_runs_are_submitted_with_and_steps_return_what_they_result_in() -> None:
    strings = Flow[str, str]("strings")
    strings.start(typed("one"))
    with pytest.raises(FlowDefinitionError, match="takes int, but runs of flow 'strings' are submitted with str"):
        strings.check()
    floats = Flow[int, float]("floats")
    floats.start(typed("one"))
    with pytest.raises(FlowDefinitionError, match="returns str, but a run of flow 'floats' results in float"):
        floats.check()


def test_a_flow_that_was_not_said_to_take_anything_is_what_its_steps_are(queue: Queue) -> None:
    numbers: Flow[int, str | None] = Flow("numbers")

    @numbers.start
    def first(number: int) -> str | None:
        return None if number else "none"

    handles = [numbers.submit(number, queue=queue) for number in (0, 1)]
    WorkflowRuntime(queue, numbers).run_until_idle()
    assert [handle.result(0) for handle in handles] == ["none", None]


def test_a_durable_function_is_the_only_step() -> None:
    numbers = flow()

    def straight(number: int, do: Do) -> str | Fail | Cancel:
        return ""

    def going(number: int, do: Do) -> Goto:
        raise AssertionError

    numbers.durable(straight)
    for add in (lambda: numbers.step(typed("x")), lambda: numbers.durable(going), lambda: numbers.start(typed("y"))):
        with pytest.raises(FlowDefinitionError, match="only"):
            add()
    with pytest.raises(FlowDefinitionError, match="returns a Goto"):
        flow().durable(going)
    with pytest.raises(FlowDefinitionError, match="takes nothing"):
        flow().durable(lambda_like)


def lambda_like() -> str:
    return ""


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"max_attempts": 0}, ValueError),
        ({"backoff": 5}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"name": ""}, ValueError),
        ({"name": 5}, TypeError),
        ({"formerly": "send"}, TypeError),
        ({"retry_on": "OSError"}, TypeError),
        ({"fail_on": (5,)}, TypeError),
        ({"attempts": 5}, TypeError),
    ],
    ids=str,
)
def test_an_option_that_is_wrong_is_refused_where_it_stands(options: dict[str, Any], kind: type[Exception]) -> None:
    for decorator in (flow().step, flow().start, flow().durable):
        with pytest.raises(kind):
            decorator(**options)


@pytest.mark.parametrize("name", ["", "x" * 300, "orders.terminal"])
def test_a_flow_has_the_name_of_a_queue(name: str) -> None:
    with pytest.raises(InvalidNameError):
        Flow[int, str](name)


@pytest.mark.parametrize("given", [{"version": 0}, {"version": "2"}, {"keep_runs": -1}, {"store": 5}], ids=str)
def test_a_flow_is_made_of_sensible_arguments(given: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Flow[int, str]("numbers", **given)


def test_an_upgrade_is_of_a_step_of_the_flow_and_of_a_version_it_has() -> None:
    numbers, others = Flow[int, str]("numbers", version=3), flow()
    step, foreign = numbers.start(typed("one")), others.start(typed("one"))
    for since in (1, 4):
        with pytest.raises(FlowDefinitionError, match=f"since version {since}"):
            numbers.upgrade(step, since=since)
    with pytest.raises(FlowDefinitionError, match="no step of flow 'numbers'"):
        numbers.upgrade(foreign, since=2)
    numbers.upgrade(step, since=2)(int)
    with pytest.raises(FlowDefinitionError, match="has an upgrade since version 2 already"):
        numbers.upgrade(step, since=2)(int)


def test_a_runtime_serves_flows_of_different_names_and_leaves_them_what_is_theirs(queue: Queue) -> None:
    numbers = flow()
    numbers.start(typed("one"))
    for wrong in (
        {"runner": [numbers, numbers]},
        {"runner": []},
        {"runner": numbers, "queue_name": "others"},
        {"runner": numbers, "keep_runs": 5},
    ):
        with pytest.raises(ValueError, match=r"flows?|empty"):
            WorkflowRuntime(queue, **wrong)
    with pytest.raises(TypeError, match="no flow"):
        WorkflowRuntime(queue, [numbers, typed("x")])  # type: ignore[list-item]  # that is what is tried
