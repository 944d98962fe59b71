"""Half of a flow over two modules that import each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

from taquba_workflow_sync.flow import Cancel, Fail
from tests.flow.typing import circle_b
from tests.flow.typing.circle import numbers

if TYPE_CHECKING:
    from taquba_workflow_sync.flow import Goto, Step


@numbers.start
def first(number: int, step: Step) -> Goto:
    assert_type(circle_b.second("1"), str | Goto | Fail | Cancel)
    return circle_b.second.goto(str(number))


@numbers.step
def third(number: float) -> str:
    return str(number)
