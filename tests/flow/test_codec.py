"""States as canonical JSON: what fits comes back as it was, what does not is refused with its path."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, NotRequired, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taquba_workflow_sync.flow import FlowDefinitionError
from taquba_workflow_sync.flow.codec import Codec


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Item:
    name: str
    price: Decimal = Decimal("0.00")
    tags: set[str] = field(default_factory=set)


@dataclass
class Order:
    id: int
    email: str
    items: list[Item] = field(default_factory=list)
    notes: dict[str, list[int]] = field(default_factory=dict)


class Address(TypedDict):
    town: str
    zip: NotRequired[int]


class Card(msgspec.Struct, tag=True):
    number: str


class Cash(msgspec.Struct, tag=True):
    amount: Decimal


class Person(pydantic.BaseModel):
    name: str
    born: date


@dataclass
class Family:
    people: list[Person]
    by_name: dict[str, Person] = field(default_factory=dict)


@dataclass
class Measured:
    value: float | None


@dataclass
class Node:
    value: int
    children: list[Node] = field(default_factory=list)


VALUES: list[tuple[Any, Any]] = [
    (Order, Order(7, "a@b.c", [Item("tent", Decimal("250.10"), {"red", "big"})], {"a": [1, 2]})),
    (Address, {"town": "Ulm"}),
    (Address, {"town": "Ulm", "zip": 89073}),
    (Card | Cash, Cash(Decimal("1.50"))),
    (list[Card | Cash], [Card("4"), Cash(Decimal(1))]),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    (date, date(2026, 1, 2)),
    (timedelta, timedelta(days=1, seconds=5, microseconds=7)),
    (UUID, UUID("12345678123456781234567812345678")),
    (Colour, Colour.RED),
    (bytes, b"\x00\xff"),
    (tuple[int, str], (1, "x")),
    (frozenset[int], frozenset({3, 1, 2})),
    (dict[int, str], {10: "a", 9: "b"}),
    (Literal["a", "b"], "a"),
    (int | str | None, None),
    (float, 0.1),
    (int, 2**80),
    (str, "z\u00fcrich \u2603 \x00"),
    (Person, Person(name="Ada", born=date(1815, 12, 10))),
    (Family, Family([Person(name="Ada", born=date(1815, 12, 10))], {"x": Person(name="Y", born=date(2000, 1, 1))})),
    (Person | None, None),
    (Node, Node(1, [Node(2), Node(3, [Node(4)])])),
    (Any, {"a": [1, None, True, 2.5]}),
]


@pytest.mark.parametrize(("type_", "value"), VALUES, ids=lambda each: str(each)[:40])
def test_a_value_comes_back_as_it_was(type_: Any, value: Any) -> None:
    codec: Codec[Any] = Codec(type_)
    data = codec.encode(value, "state")
    assert codec.decode(data, "state") == value
    assert codec.encode(codec.decode(data, "state"), "state") == data


def test_equal_states_have_equal_bytes_whatever_the_order() -> None:
    codec: Codec[Any] = Codec(dict[str, set[str]])
    one = codec.encode({"b": {"x", "y", "z"}, "a": set()}, "state")
    assert one == codec.encode({"a": set(), "b": {"z", "y", "x"}}, "state") == b'{"a":[],"b":["x","y","z"]}'


WRONG: list[tuple[Any, Any, str]] = [
    (Order, Order(7, 5), "order.email: expected str, got int"),  # type: ignore[arg-type]  # that is what is tried
    (Order, Order("7", "x"), "order.id: expected int, got str"),  # type: ignore[arg-type]  # as above
    (Order, Order(7, "x", [Item(5)]), "order.items[0].name: expected str, got int"),  # type: ignore[arg-type]  # as above
    (Order, 5, "order: expected object, got int"),
    (Order, None, "order: expected object, got null"),
    (Order, {"id": 7}, "order.email: missing"),
    (Order, Order(7, "x", notes={"a": [1, object()]}), "order.notes.a[1]: a object cannot be stored as JSON"),  # type: ignore[list-item]  # as above
    (Order, Order(7, "\ud800"), "order.email: 'utf-8' codec can't encode"),
    (Order, {"id": 7, "email": "x", "colour": "red"}, "order.colour: 'red' would come back as nothing"),
    (float, 5, "order: 5 would come back as 5.0"),
    (float, math.nan, "order: expected float, got null"),
    (Person, Person.model_construct(name=5, born=date(2000, 1, 1)), "order.name: input should be a valid string"),
    (Family, {"people": [{"name": "x", "born": 5}]}, "order.people[0].born: input should be a valid date"),
    (Any, [1.5, float("inf")], "order[1]: inf would come back as null"),
    (float | None, math.nan, "order: nan would come back as null"),
    (dict[str, Measured], {"a": Measured(None), "b": Measured(math.inf)}, "order.b.value: inf would come back as null"),
]


@pytest.mark.parametrize(("type_", "value", "complaint"), WRONG, ids=lambda each: str(each)[:40])
def test_what_does_not_fit_is_refused_with_its_path(type_: Any, value: Any, complaint: str) -> None:
    with pytest.raises(TypeError) as caught:
        Codec[Any](type_).encode(value, "order")
    assert str(caught.value).startswith(complaint)


def test_what_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="contains itself"):
        Codec[Any](list[Any]).encode(endless, "state")


def test_unknown_fields_of_a_stored_state_are_passed_over() -> None:
    assert Codec[Order](Order).decode(b'{"id":1,"email":"x","since":"v9"}', "order") == Order(1, "x")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b'{"id":1,"email":"x"}x'])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(TypeError, match=r"^order: "):
        Codec[Order](Order).decode(data, "order")


class Plain:
    pass


@dataclass
class WithPlain:
    inner: list[Plain]


UNSTORABLE: list[tuple[Any, str]] = [
    (Order | Item, "tag=True"),
    (Order | dict[str, int], "tag=True"),
    (Plain, "Plain cannot be stored as JSON"),
    (WithPlain, "Plain cannot be stored as JSON"),
    (complex, "complex cannot be stored"),
    (Person | Order, "custom type"),
]


@pytest.mark.parametrize(("type_", "why"), UNSTORABLE, ids=lambda each: str(each)[:40])
def test_a_type_that_json_cannot_hold_is_refused_before_any_value(type_: Any, why: str) -> None:
    with pytest.raises(FlowDefinitionError, match=why):
        Codec[Any](type_)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_plain_json_comes_back_as_it_was_or_is_refused(value: Any) -> None:
    codec: Codec[Any] = Codec(Any)
    try:
        data = codec.encode(value, "state")
    except TypeError:
        return
    assert codec.decode(data, "state") == value
    assert codec.encode(codec.decode(data, "state"), "state") == data
