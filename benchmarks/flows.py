"""What a flow's step costs beside the same step over bytes: CPU per step of both, measured by turns."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.figures import Bench, Section
from taquba_workflow_sync import Continue, Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowRuntime
from taquba_workflow_sync.flow import Flow, Goto

#: So many runs at once, of so many steps.
RUNS = 16
STEPS = 150
WORKERS = 4
ROUNDS = 5


@dataclass
class Order:
    id: int
    email: str


@dataclass
class Paid:
    order: Order
    receipt: str
    left: int


orders = Flow[Paid, str]("orders")


@orders.start
def charge(paid: Paid) -> Goto | str:
    return ship.goto(Paid(paid.order, paid.receipt, paid.left - 1))


@orders.step
def ship(paid: Paid) -> Goto | str:
    return ship.goto(Paid(paid.order, paid.receipt, paid.left - 1)) if paid.left else paid.receipt


def _bytes_named(step: Step) -> StepOutcome:
    return Continue(step.payload, label="ship") if step.step_number < STEPS else Succeed(b"r-7")


def _bytes(step: Step) -> StepOutcome:
    return Continue(step.payload) if step.step_number < STEPS else Succeed(b"r-7")


def measure(bench: Bench) -> list[Section]:
    section = Section(
        "Flows",
        f"CPU of this process per step, {RUNS} runs of {STEPS} steps on {WORKERS} workers, fsync per commit. A flow's"
        " step reads its state, makes the next one, checks that it would come back as it is, and has a name; the same"
        " step over bytes passes a payload of the same size on, once named, once not. By turns, the least of each.",
    )
    state = Paid(Order(7, "somebody@example.org"), "r-7", STEPS)
    envelope = ship.goto(state).outcome.payload
    cases: list[tuple[str, str, Callable[[], float]]] = [
        ("flows.plain", "bytes, without a name", lambda: _cpu(bench, _bytes, RunSpec(input=envelope))),
        ("flows.bytes", "bytes", lambda: _cpu(bench, _bytes_named, RunSpec(input=envelope, label="charge"))),
        ("flows.flow", "a flow", lambda: _cpu(bench, orders, orders.spec(state))),
    ]
    spent: dict[str, list[float]] = {key: [] for key, *_ in cases}
    for _ in range(max(bench.scale.rounds, ROUNDS)):
        for key, _, cpu in cases:
            spent[key].append(cpu())
    # The least: CPU time has no noise but what others on the machine add to it.
    ratio = min(spent["flows.flow"]) / min(spent["flows.bytes"])
    section.add("flows.plain", "bytes, without a name", spent["flows.plain"], "us/step")
    section.add("flows.bytes", "bytes", spent["flows.bytes"], "us/step")
    section.add("flows.flow", "a flow", spent["flows.flow"], "us/step", ratio, "the same over bytes")
    nameless = min(spent["flows.flow"]) / min(spent["flows.plain"])
    section.add(
        "flows.nameless", "a flow, of a step without a name", [statistics.median(spent["flows.flow"])], "us/step",
        nameless, "bytes without a name",
    )  # fmt: skip
    return [section]


def _cpu(bench: Bench, runner: object, spec: RunSpec) -> float:
    """Return microseconds of CPU per step."""
    with tempfile.TemporaryDirectory(prefix="flows-", dir=bench.place) as store, Queue.open(store) as queue:
        name = {} if runner is orders else {"queue_name": orders.name}
        runtime = WorkflowRuntime(queue, runner, max_concurrent_steps=WORKERS, **name)  # type: ignore[arg-type]  # either
        runtime.submit_many([spec] * RUNS)
        began = time.process_time()
        counts = runtime.run_until_idle()
        spent = time.process_time() - began
    if counts.succeeded != RUNS:
        raise RuntimeError(f"{counts.succeeded} of {RUNS} runs succeeded")
    return spent / counts.steps * 1e6
