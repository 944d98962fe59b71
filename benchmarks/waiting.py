"""Threads that submit a run and wait for its end, as a web application does that answers when the run is done."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.children import child
from benchmarks.figures import Bench, Section, percentile
from benchmarks.steps import PAYLOAD
from taquba_workflow_sync import Continue, Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowClient, WorkflowRuntime

STEPS = 4
THREADS = (8, 128, 1_000)
WAIT_SECONDS = 60.0


def measure(bench: Bench) -> list[Section]:
    return [_crowds(bench), _round_trips(bench)]


def _crowds(bench: Bench) -> Section:
    section = Section(
        "Waiting for runs",
        f"N threads, each of which submits a run of {STEPS} steps that do nothing and waits for its end, over and over;"
        " 16 workers in the same process, fsync per commit. CPU is that of the whole process, for each run waited for.",
    )
    for threads in THREADS:
        rates, costs = [], []
        for _ in range(bench.scale.rounds):
            rate, cost = _crowd(bench, threads)
            rates.append(rate)
            costs.append(cost)
        section.add(f"wait.rate.{threads}", f"{threads:,} threads", rates, "runs/s")
        section.add(f"wait.cpu.{threads}", f"{threads:,} threads: CPU of a run", costs, "ms")
    return section


def _crowd(bench: Bench, threads: int) -> tuple[float, float]:
    """Return runs per second, and the milliseconds of CPU that each takes."""

    def run_step(step: Step) -> StepOutcome:
        return Continue(PAYLOAD) if step.step_number < STEPS - 1 else Succeed()

    ended = [0] * threads
    go = threading.Event()
    with tempfile.TemporaryDirectory(prefix="waiting-", dir=bench.place) as store, Queue.open(store) as queue:
        with WorkflowRuntime(queue, run_step) as runtime:
            until = [0.0]

            def wait_for_runs(number: int) -> None:
                go.wait()
                while time.perf_counter() < until[0]:
                    runtime.submit(RunSpec(input=PAYLOAD)).wait(WAIT_SECONDS)
                    ended[number] += 1

            started = [threading.Thread(target=wait_for_runs, args=(number,)) for number in range(threads)]
            for each in started:
                each.start()
            began, cpu = time.perf_counter(), time.process_time()
            until[0] = began + bench.scale.seconds
            go.set()
            for each in started:
                each.join()
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return sum(ended) / took, cpu / sum(ended) * 1_000


def _round_trips(bench: Bench) -> Section:
    section = Section(
        "From submit to result", "`submit().result()` of a run of one step, by one thread, fsync per commit."
    )
    for key, what, took in (
        ("result.inside", "in one process", _inside(bench)),
        ("result.across", "run by another process", _across(bench)),
    ):
        section.add(key, f"{what}: median of {len(took)}", [statistics.median(took)], "ms")
        section.add(f"{key}.p99", f"{what}: 99th percentile", [percentile(took, 0.99)], "ms")
    return section


def _inside(bench: Bench) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="result-", dir=bench.place) as store, Queue.open(store) as queue:
        with WorkflowRuntime(queue, lambda step: Succeed(step.payload)) as runtime:
            return _results(runtime, bench.scale.samples)


def _across(bench: Bench) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="result-", dir=bench.place) as place, Queue.open(place) as queue:
        with child(_serve, Path(place)) as worker:
            worker.hear()
            return _results(WorkflowClient(queue), bench.scale.samples)


def _results(client: WorkflowClient, samples: int) -> list[float]:
    took: list[float] = []
    client.submit(RunSpec(input=PAYLOAD)).result(WAIT_SECONDS)
    for _ in range(samples):
        began = time.perf_counter()
        client.submit(RunSpec(input=PAYLOAD)).result(WAIT_SECONDS)
        took.append((time.perf_counter() - began) * 1_000)
    return took


def _serve(pipe: Connection, store: Path) -> None:
    with Queue.open(store) as queue, WorkflowRuntime(queue, lambda step: Succeed(step.payload)):
        pipe.send("ready")
        pipe.recv()  # until the parent kills this process
