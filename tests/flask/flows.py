"""The flows of these tests, made anew for each."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from flask import current_app, g

from taquba_workflow_sync.flow import Fail, Flow, Goto, Step


@dataclass
class Flows:
    """``double`` goes two steps, and waits in the second for ``may_end``; ``fails`` fails."""

    double: Flow[int, dict[str, int]]
    fails: Flow[str, None]
    may_end: threading.Event = field(default_factory=threading.Event)
    has_said: threading.Event = field(default_factory=threading.Event)
    seen: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def all(self) -> list[Flow[int, dict[str, int]] | Flow[str, None]]:
        return [self.double, self.fails]


def flows_of() -> Flows:
    flows = Flows(Flow("double"), Flow("fails"))

    @flows.double.start
    def read(number: int) -> Goto:
        flows.seen.append((current_app.name, "mark" in g))
        g.mark = number
        return multiply.goto(number)

    @flows.double.step
    def multiply(number: int, step: Step) -> dict[str, int]:
        flows.seen.append((current_app.name, "mark" in g))
        step.progress(1, 2, "half")
        flows.has_said.set()
        assert flows.may_end.wait(30)
        return {"twice": 2 * number}

    @flows.fails.start
    def fail(secret: str) -> Fail:
        return Fail(f"no {secret}")

    return flows
