"""The picture of a flow: its steps, and the ways between them that its source shows."""

from __future__ import annotations

import builtins
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import Queue, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.flow import Fail, Flow, Goto, Graph
from tests.flow.typing import right

orders = Flow[int, str]("orders")


@orders.step
def refund(number: int) -> str:
    return "refunded"


@orders.start
def check(number: int) -> Goto | Fail:
    if number < 0:
        return Fail("none")
    if number == 0:
        return refund.goto(number)
    return approve.on_signal(number, "approved", timeout=60) if number > 9 else pay.goto(number)


@orders.step(name='pay "now"')
def pay(number: int) -> Goto | str:
    elsewhere: Any = check
    if number == 1:
        return elsewhere.goto(number)
    return pay.goto(number, after=3600) if number else approve.on_group(number, group_id="all")


@orders.step
def approve(number: int) -> str:
    return ""


def test_steps_and_edges_are_those_of_the_source() -> None:
    graph = orders.graph()
    assert graph.steps == ("check", "refund", 'pay "now"', "approve")
    assert set(graph.edges) == {
        ("check", "refund"),
        ("check", "approve"),
        ("check", 'pay "now"'),
        ('pay "now"', 'pay "now"'),
        ('pay "now"', "approve"),
    }
    assert dict(graph.waits) == {
        ("check", "approve"): "signal approved",
        ('pay "now"', 'pay "now"'): "later",
        ('pay "now"', "approve"): "group all",
    }


def test_a_graph_is_drawn_as_a_flowchart() -> None:
    assert orders.graph().mermaid().splitlines() == [
        "flowchart TD",
        '    s0(["check"])',
        '    s1["refund"]',
        '    s2["pay &quot;now&quot;"]',
        '    s3["approve"]',
        "    s0 --> s1",
        '    s0 -->|"signal approved"| s3',
        "    s0 --> s2",
        '    s2 -->|"later"| s2',
        '    s2 -->|"group all"| s3',
    ]


def test_steps_of_a_function_and_of_other_modules_are_found() -> None:
    flow = Flow[int, str]("nested")

    @flow.start
    def first(number: int) -> Goto:
        return second.goto(number)

    @flow.step
    def second(number: int) -> Goto:
        return right.ship.goto(right.Paid(right.Order(1, ""), "")) if number else third.goto()

    @flow.step
    def third() -> str:
        return ""

    assert flow.graph().edges == (("first", "second"), ("second", "third"))
    assert set(right.orders.graph().edges) == {("charge", "ship"), ("ship", "ship")}


def test_a_picture_runs_nothing_of_what_the_body_of_a_step_would_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue: Queue
) -> None:
    ran: list[str] = []
    (tmp_path / "picture_side.py").write_text("import builtins\nbuiltins.picture_ran.append('imported')\nstep = None\n")
    (tmp_path / "picture_steps.py").write_text(
        "def __getattr__(name):\n    import builtins\n    builtins.picture_ran.append(name)\n    raise AttributeError\n"
    )
    monkeypatch.setattr(builtins, "picture_ran", ran, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("picture_steps")
    flow = Flow[int, str]("pictures")

    class Lazy:
        @property
        def __class__(self) -> Any:
            ran.append("proxy")
            return Lazy

        @property
        def step(self) -> Any:
            ran.append("property")
            return second

    lazy: Any = Lazy()

    @flow.start
    def first(number: int) -> Goto:
        import picture_side
        import picture_steps
        from picture_side import step
        from picture_steps import fetched

        for each in (picture_side.step, picture_steps.computed, step, fetched):
            each.goto(number)
        lazy.goto(number)
        lazy.step.goto(number)
        return second.goto(number)

    @flow.step
    def second(number: int) -> str:
        return ""

    assert flow.graph().edges == (("first", "second"),)
    WorkflowRuntime(queue, flow).run_until_idle()
    assert ran == []
    assert "picture_side" not in sys.modules
    del sys.modules["picture_steps"]


def test_a_function_without_source_has_no_edges() -> None:
    space: dict[str, Any] = {"Goto": Goto}
    exec("def first(number: int) -> Goto:\n    return first.goto(number)\n", space)
    flow = Flow[int, str]("typed in")
    flow.start(space["first"])
    assert (flow.graph().steps, flow.graph().edges) == (("first",), ())


def test_a_runtime_registers_the_graphs_of_its_flows_for_whoever_shows_them(queue: Queue) -> None:
    assert orders.client(queue).graph() is None
    WorkflowRuntime(queue, [orders, right.asking]).run_until_idle()
    text = orders.client(queue).graph()
    assert text is not None and Graph.of_json(text) == orders.graph()
    other = WorkflowClient(queue, queue_name="asking").graph()
    assert other is not None and Graph.of_json(other).edges == (("ask", "answer"),)
    assert WorkflowClient(queue).graph() is None
    for wrong in ("", "[]", '{"flow": 1}'):
        with pytest.raises(ValueError, match="no graph"):
            Graph.of_json(wrong)


def test_steps_are_found_by_whichever_import_a_body_has_of_what_is_loaded() -> None:
    assert {target for source, target in imports.graph().edges if source == "of_all"} == {"a", "b", "c", "d"}


imports = Flow[int, str]("imports")


@imports.start
def of_all(number: int) -> Goto:
    import tests.flow.test_graph
    import tests.flow.test_graph as here

    from . import test_graph
    from .test_graph import d as last

    for step in (tests.flow.test_graph.a.goto(number), here.b.goto(number), test_graph.c.goto(number)):
        return step
    return last.goto(number)


@imports.step
def a(number: int) -> str:
    return ""


@imports.step
def b(number: int) -> str:
    return ""


@imports.step
def c(number: int) -> str:
    return ""


@imports.step
def d(number: int) -> str:
    return ""
