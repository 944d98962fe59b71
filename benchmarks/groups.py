"""Groups: how fast they are submitted, and how soon their end wakes who waits."""

from __future__ import annotations

import tempfile
import threading
import time

from benchmarks.figures import Bench, Section, percentile
from benchmarks.steps import PAYLOAD
from taquba_workflow_sync import (
    ContinueOnGroup,
    Queue,
    RunSpec,
    Step,
    StepOutcome,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)

MEMBERS = 100_000
BATCH = 1_000


def measure(bench: Bench) -> list[Section]:
    """Return the figures of groups."""
    return [_submitting(bench), _waking(bench)]


def _submitting(bench: Bench) -> Section:
    section = Section("Groups", f"{MEMBERS:,} runs, as submits of {BATCH:,} and as one group, each in a new store.")
    singly: list[float] = []
    together: list[float] = []
    for _ in range(bench.scale.rounds):
        for rates, submit in ((singly, _submit_many), (together, _submit_group)):
            with tempfile.TemporaryDirectory(prefix="groups-", dir=bench.place) as store, Queue.open(store) as queue:
                client = WorkflowClient(queue)
                began = time.perf_counter()
                submit(client)
                rates.append(MEMBERS / (time.perf_counter() - began))
    many = section.add("groups.many", f"submit_many of {BATCH:,}", singly, "runs/s")
    rate = sorted(together)[len(together) // 2]
    section.add("groups.one", "submit_group", together, "runs/s", rate / many.value, "submit_many")
    return section


def _submit_many(client: WorkflowClient) -> None:
    for _ in range(MEMBERS // BATCH):
        client.submit_many([RunSpec(input=PAYLOAD) for _ in range(BATCH)])


def _submit_group(client: WorkflowClient) -> None:
    client.submit_group("g", [RunSpec(input=PAYLOAD) for _ in range(MEMBERS)])


class _Timed:
    """A parent that notes when it goes on, and members that note when they end."""

    def __init__(self) -> None:
        self.client: WorkflowClient | None = None
        self.ended: dict[str, float] = {}
        self.woken: dict[str, float] = {}
        self._lock = threading.Lock()

    def run_step(self, step: Step) -> StepOutcome:
        group_id = step.headers["group"]
        if "member" in step.headers:
            with self._lock:
                self.ended[group_id] = time.perf_counter()
            return Succeed()
        if step.step_number == 0:
            assert self.client is not None
            headers = {"group": group_id, "member": "yes"}
            self.client.submit_group(group_id, [RunSpec(headers=headers) for _ in range(20)])
            return ContinueOnGroup(b"", group_id)
        self.woken[group_id] = time.perf_counter()
        return Succeed()


def _waking(bench: Bench) -> Section:
    section = Section("The end of a group", "From the return of its last member's step to the start of the parent's.")
    runner = _Timed()
    with tempfile.TemporaryDirectory(prefix="groups-", dir=bench.place) as store, Queue.open(store) as queue:
        with WorkflowRuntime(queue, runner) as runtime:
            runner.client = runtime
            for number in range(bench.scale.samples):
                runtime.submit(RunSpec(headers={"group": f"g{number}"})).wait(60)
    took = [(runner.woken[each] - runner.ended[each]) * 1000 for each in runner.woken]
    section.add("groups.wake", "median", took, "ms")
    section.add("groups.wake.95", "95 of 100 within", [percentile(took, 0.95)], "ms")
    return section
