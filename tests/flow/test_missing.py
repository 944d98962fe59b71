"""What a flow is told of runs that should exist."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.flow import Flow, FlowDefinitionError


def test_a_function_that_yields_the_missing_runs_is_kept_and_stays_a_function() -> None:
    flow = Flow[int, int]("orders")
    assert flow.find_missing is None

    @flow.missing
    def missing() -> list[tuple[str, int]]:
        return [("order-7", 7)]

    assert flow.find_missing is missing
    assert list(missing()) == [("order-7", 7)]


def test_it_may_say_what_else_a_run_is_submitted_with() -> None:
    flow = Flow[int, int]("orders")

    @flow.missing
    def missing() -> list[tuple[str, int, dict[str, int]]]:
        return [("order-7", 7, {"priority": 5})]

    assert list(missing()) == [("order-7", 7, {"priority": 5})]


def test_there_is_one_such_function_and_it_is_one() -> None:
    flow = Flow[int, int]("orders")
    with pytest.raises(TypeError, match="missing takes a function, not int"):
        flow.missing(7)  # type: ignore[arg-type]  # that is the test
    flow.missing(list)
    with pytest.raises(FlowDefinitionError, match="has a missing already"):
        flow.missing(list)
