"""What a step's function says is what it is given: decorated functions, the step behind the state, narrower results."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Never, NewType, NoReturn, TypedDict

import pytest

from taquba_workflow_sync import Queue, RunFailedError, StepError, WorkflowRuntime
from taquba_workflow_sync import Step as StepOfRuntime
from taquba_workflow_sync.flow import Do, Flow, FlowDefinitionError, Goto, Step

if TYPE_CHECKING:
    from taquba_workflow_sync.flow import Step as OnlyForCheckers


def checked(function: Any, *, durable: bool = False) -> Any:
    """Return the start of a flow of ints and texts."""
    flow = Flow[int, str]("shapes")
    step = flow.durable(function) if durable else flow.start(function)
    flow.check()
    return step


def passing_on(function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def adding_the_step(function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def wrapper(number: int, step: Step) -> Any:
        return f"{function(number)} {step.attempts}"

    return wrapper


def test_a_decorated_function_is_given_what_it_takes_itself() -> None:
    def plain(number: int) -> str:
        return str(number)

    def both(number: int, step: Step) -> str:
        return f"{number} {step.attempts}"

    assert checked(passing_on(plain)).test(1) == "1"
    assert checked(passing_on(both)).test(1) == "1 1"
    assert checked(adding_the_step(plain)).test(1) == "1 1"
    assert checked(passing_on(adding_the_step(plain))).test(1) == "1 1"


def as_int(number: int, more: int) -> str:
    return ""


def as_do(number: int, do: Do) -> str:
    return ""


def as_step(number: int, step: Step) -> str:
    return ""


def only_step(step: Step) -> str:
    return ""


def only_step_or_none(step: Step | None) -> str:
    return ""


def swapped(step: Step, number: int) -> str:
    return ""


def only_do(do: Do) -> str:
    return ""


@pytest.mark.parametrize(
    ("function", "durable", "why"),
    [
        (as_int, False, "as_int says that more is int, but behind its state it is given the Step"),
        (as_do, False, "as_do says that do is Do, but behind .* given the Step"),
        (as_step, True, "as_step says that step is Step, but behind .* given the Do"),
        (only_step, False, "only_step takes the Step as step, its first argument; that is its state"),
        (only_step_or_none, False, "only_step_or_none takes the Step as step"),
        (swapped, False, "swapped takes the Step as step, its first argument"),
    ],
)
def test_a_function_that_would_be_given_something_else_than_it_says_is_refused(
    function: Any, durable: bool, why: str
) -> None:
    with pytest.raises(FlowDefinitionError, match=why):
        checked(function, durable=durable)


def test_the_step_may_be_said_in_whichever_way_it_fits() -> None:
    def of_runtime(number: int, step: StepOfRuntime) -> str:
        return step.run_id

    def anything(number: int, step: Any) -> str:
        return str(step.run_id)

    def unsaid(number: int, step) -> str:  # type: ignore[no-untyped-def]
        return str(step.run_id)

    def optional(number: int, step: Step | None = None) -> str:
        return "" if step is None else step.run_id

    def for_checkers(number: int, step: OnlyForCheckers) -> str:
        return step.run_id

    for function in (of_runtime, anything, unsaid, optional, for_checkers):
        assert checked(function).test(1) == "test"

    def straight(number: int, do: Any) -> str:
        return do(str, number)  # type: ignore[no-any-return]  # it is a Do

    assert checked(straight, durable=True).test(1) == "1"
    flow = Flow[None, str]("alone")
    flow.durable(only_do)
    flow.check()


UserId = NewType("UserId", int)


class Address(TypedDict):
    town: str


@pytest.mark.parametrize(
    ("flow_type", "step_type", "value"),
    [
        (int, UserId, UserId(5)),
        (int, Literal[1, 2], 1),
        (int | str, Literal[1, "a"], "a"),
        (str | None, Literal["a", None], None),
        (int, Annotated[int, "of cents"], 5),
        (dict, Address, {"town": "Ulm"}),
    ],
    ids=str,
)
def test_a_step_may_return_what_type_checkers_take_for_the_result(flow_type: Any, step_type: Any, value: Any) -> None:
    flow = Flow[None, flow_type]("narrower")

    def step() -> Any:
        return value

    step.__annotations__["return"] = step_type
    start = flow.start(step)
    flow.check()
    assert start.test() == value
    assert flow._result.decode(start._node.encode_result(value), "result") == value


@pytest.mark.parametrize(
    ("flow_type", "step_type"), [(str, Literal[1]), (str, Literal["a", 1]), (str, UserId)], ids=str
)
def test_what_they_do_not_take_is_refused(flow_type: Any, step_type: Any) -> None:
    flow = Flow[None, flow_type]("narrower")

    def step() -> Any:
        return 1

    step.__annotations__["return"] = step_type
    flow.start(step)
    with pytest.raises(FlowDefinitionError, match="but a run of flow 'narrower' results in str"):
        flow.check()


@pytest.mark.parametrize("never", [NoReturn, Never], ids=str)
def test_a_step_that_never_returns_a_result_may_say_so(queue: Queue, never: Any) -> None:
    def failing(number: int) -> Any:
        if number:
            raise KeyError(number)
        return "end"

    failing.__annotations__["return"] = never
    step = checked(failing)
    with pytest.raises(KeyError):
        step.test(1)
    with pytest.raises(StepError, match="step 'failing' returned str"):
        step.test(0)


def test_a_goto_to_a_step_of_another_flow_object_of_that_name_is_a_permanent_failure(queue: Queue) -> None:
    flow, namesake = Flow[int, str]("same"), Flow[int, str]("same")

    @namesake.step
    def elsewhere(number: int) -> str:
        return ""

    @namesake.step(name="second")
    def its_second(number: int) -> str:
        return "theirs"

    @flow.start
    def first(number: int) -> Goto:
        return its_second.goto(number) if number else elsewhere.goto(number)

    @flow.step
    def second(number: int) -> str:
        return "ours"

    handle, other = flow.submit(0, queue=queue), flow.submit(1, queue=queue)
    WorkflowRuntime(queue, flow).run_until_idle()
    with pytest.raises(
        RunFailedError, match="went to step 'elsewhere', which its flow 'same' has not: it is of another"
    ):
        handle.result(0)
    assert other.result(0) == "ours", "a module that was imported twice has its flow twice"


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)
    parent: Tree | None = None


def test_a_type_may_contain_itself_and_a_value_may_not() -> None:
    flow = Flow[Tree, Tree]("trees")

    @flow.start
    def walk(tree: Tree) -> Tree:
        return tree

    flow.check()
    tree = Tree(1, [Tree(2, [Tree(3)])], Tree(0))
    assert walk.test(tree) == tree
    tree.children.append(tree)
    with pytest.raises(TypeError, match="contains itself"):
        walk.test(tree)
