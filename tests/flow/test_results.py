"""Whatever a step returns, its run has a result that its flow's type reads, or the step says why it has none."""

from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taquba_workflow_sync import Queue, RunFailedError, StepError, WorkflowRuntime
from taquba_workflow_sync.flow import Flow, FlowDefinitionError
from taquba_workflow_sync.flow.codec import Codec


class Level(enum.IntEnum):
    LOW = 1


class Colour(enum.StrEnum):
    RED = "red"


class Flag(enum.IntFlag):
    ONE = 1
    TWO = 2


class Pair(NamedTuple):
    a: int
    b: str


@dataclass
class Animal:
    name: str


@dataclass
class Dog(Animal):
    tricks: int = 0


@dataclass
class Cat(Animal):
    pass


class Shape(msgspec.Struct):
    size: int


class Square(Shape):
    colour: str = "red"


class Person(pydantic.BaseModel):
    name: str


class Employee(Person):
    number: int = 0


class Address(TypedDict):
    town: str


class Number(int):
    pass


class Text(str):
    pass


@dataclass
class Holder:
    value: float
    day: date | None = None
    many: list[int] = field(default_factory=list)


TYPES: list[Any] = [
    int, float, bool, str, bytes, date, datetime, time, timedelta, Decimal, UUID, Level, Colour, Flag, Pair, Animal,
    Dog, Cat, Shape, Square, Person, Employee, Address, Holder, tuple[int, str], list[int], list[float], list[bool],
    set[int], dict[str, int], dict[str, Animal], dict[int, str], Literal[1], Literal["red"], int | str, int | float,
    date | None, Animal | None, tuple, list, dict, Any, object,
]  # fmt: skip

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=-3, minutes=30))))
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.sampled_from([*Level, *Colour, *Flag, Flag.ONE | Flag.TWO, "2026-01-02", "red", 1, 1.0, Number(3), Text("x")])
)
texts = st.text(max_size=5) | st.sampled_from(["town", "name", "size"])
values = st.recursive(
    scalars
    | st.builds(Pair, scalars, scalars)
    | st.builds(Animal, scalars)
    | st.builds(Dog, texts, scalars)
    | st.builds(Cat, texts)
    | st.builds(Shape, scalars)
    | st.builds(Square, st.integers(), texts)
    | st.builds(Person, name=texts)
    | st.builds(Employee, name=texts, number=st.integers(-5, 5))
    | st.builds(Holder, scalars, scalars, st.lists(scalars, max_size=2)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(texts | st.integers(-9, 9), inner, max_size=3)
        | st.dictionaries(texts, inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=6,
) | st.sets(st.integers() | st.text(), max_size=3)


@given(st.sampled_from(TYPES), values)
def test_what_is_written_can_be_read_by_its_type_and_is_written_so_again(type_: Any, value: Any) -> None:
    codec: Codec[Any] = Codec(Any if type_ is object else type_)
    try:
        data = codec.encode(value, "value")
    except TypeError as error:
        assert str(error).startswith("value")
        return
    back = codec.decode(data, "value")
    assert codec.encode(back, "value") == data


def flow_of(flow_type: Any, step_type: Any) -> tuple[Flow[Any, Any], Any]:
    flow = Flow[None, flow_type]("results")

    def step() -> Any:
        return None

    step.__annotations__["return"] = step_type
    return flow, flow.start(step)


@given(st.sampled_from(TYPES), st.sampled_from(TYPES), values)
def test_what_a_step_may_return_its_flow_can_read(flow_type: Any, step_type: Any, value: Any) -> None:
    flow, step = flow_of(flow_type, step_type)
    try:
        flow.check()
    except FlowDefinitionError:
        assert flow_type != step_type and Any not in (flow_type, step_type)
        return
    try:
        data = step._node.encode_result(value)
    except StepError as error:
        assert error.is_permanent and str(error).startswith("step 'step' returned ")
        return
    assert step._node.types.result.encode(flow._result.decode(data, "result"), "result") == data


@pytest.mark.parametrize(
    ("flow_type", "step_type"),
    [
        (int, bool),
        (date, datetime),
        (date | None, datetime),
        (Animal, Dog),
        (Shape, Square),
        (Person, Employee),
        (Address, Cat),
    ],
    ids=str,
)
def test_a_step_whose_results_its_flow_could_not_read_is_refused_before_it_runs(flow_type: Any, step_type: Any) -> None:
    flow, _ = flow_of(flow_type, step_type)
    with pytest.raises(FlowDefinitionError, match=f"returns {step_type.__name__}, but a run of flow 'results' results"):
        flow.check()


@pytest.mark.parametrize(
    ("flow_type", "step_type", "value"),
    [(int, Level, Level.LOW), (str, Colour, Colour.RED), (Animal, Cat, Cat("Tom")), (int | None, Level, Level.LOW)],
    ids=str,
)
def test_a_step_may_return_a_class_that_is_read_as_its_base(flow_type: Any, step_type: Any, value: Any) -> None:
    flow, step = flow_of(flow_type, step_type)
    flow.check()
    back = flow._result.decode(step._node.encode_result(value), "result")
    assert back == (Animal("Tom") if step_type is Cat else value)


def test_a_step_that_says_any_fails_for_good_where_its_flow_could_not_read_what_it_returned(queue: Queue) -> None:
    flow = Flow[int, int]("anything")

    @flow.start
    def first(number: int) -> Any:
        return number if number else "none"

    handles = [flow.submit(number, queue=queue) for number in (1, 0)]
    WorkflowRuntime(queue, flow).run_until_idle()
    assert handles[0].result(0) == 1
    with pytest.raises(
        RunFailedError,
        match="step 'first' returned str; a run of flow 'anything' results in int: result: expected int, got str",
    ):
        handles[1].result(0)
