"""The other half."""

from __future__ import annotations

from taquba_workflow_sync.flow import Goto
from tests.flow.typing import circle_a
from tests.flow.typing.circle import numbers


@numbers.step
def second(number: str) -> Goto:
    return circle_a.third.goto(float(number)) if number else third_later(number)


def third_later(number: str) -> Goto:
    from tests.flow.typing.circle_a import first

    return first.goto(int(number))
