"""How long things take to reach a worker: a submit, and a cancel; in its process and from another one."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.children import Child, Work, child
from benchmarks.figures import Bench, Section, percentile
from taquba_workflow_sync import Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowClient, WorkflowRuntime

WAIT_SECONDS = 30.0
# A worker looks more often for a second after it had something to do; past that it counts as idle.
IDLE_AFTER_SECONDS = 1.2


def measure(bench: Bench) -> list[Section]:
    section = Section(
        "Latency",
        "From just before the call until the step has started, fsync of the submit included; clients pause at random"
        f" between the samples. A worker is idle when it has had nothing to do for {IDLE_AFTER_SECONDS} s.",
    )
    scale = bench.scale
    _add(section, "start.inside", "submit to start, one process", _inside(bench, scale.samples, 0.0))
    _add(
        section,
        "start.inside.idle",
        "submit to start, one process, idle",
        _inside(bench, scale.slow_samples, IDLE_AFTER_SECONDS),
    )
    _add(section, "start.across", "submit to start, another process", _across(bench, scale.samples, 0.0))
    _add(
        section,
        "start.across.idle",
        "submit to start, another process, idle",
        _across(bench, scale.slow_samples, IDLE_AFTER_SECONDS),
    )
    _add(section, "cancel", "cancel from another process, until the step's token is set", _cancels(bench))
    return [section]


def _add(section: Section, key: str, what: str, milliseconds: list[float]) -> None:
    section.add(key, f"{what}: median of {len(milliseconds)}", [statistics.median(milliseconds)], "ms")
    section.add(f"{key}.p99", f"{what}: 99th percentile", [percentile(milliseconds, 0.99)], "ms")


def pause_between(least: float) -> None:
    # Random, so that no sample is in step with a poll of the worker.
    time.sleep(least + random.uniform(0.005, 0.060))


def _inside(bench: Bench, samples: int, pause: float) -> list[float]:
    took: list[float] = []

    def run_step(step: Step) -> StepOutcome:
        took.append((time.monotonic_ns() - int(step.payload)) / 1e6)
        return Succeed()

    with tempfile.TemporaryDirectory(prefix="latency-", dir=bench.place) as store, Queue.open(store) as queue:
        with WorkflowRuntime(queue, run_step) as runtime:
            runtime.submit(RunSpec(input=now())).wait(WAIT_SECONDS)
            took.clear()
            for _ in range(samples):
                pause_between(pause)
                runtime.submit(RunSpec(input=now())).wait(WAIT_SECONDS)
    return took


def _across(bench: Bench, samples: int, pause: float) -> list[float]:
    took: list[float] = []
    with _worker(bench, tell_latency) as (worker, client):
        client.submit(RunSpec(input=now()))
        worker.hear()
        for _ in range(samples):
            pause_between(pause)
            client.submit(RunSpec(input=now()))
            took.append(worker.hear())
    return took


def _cancels(bench: Bench) -> list[float]:
    took: list[float] = []
    with _worker(bench, _tell_cancels) as (worker, client):
        for _ in range(max(bench.scale.slow_samples, bench.scale.samples // 6)):
            handle = client.submit(RunSpec(input=b""))
            worker.hear()
            pause_between(random.uniform(0.0, 0.2))
            began = time.monotonic_ns()
            handle.cancel()
            took.append((worker.hear() - began) / 1e6)
    return took


@contextmanager
def _worker(bench: Bench, work: Work) -> Iterator[tuple[Child, WorkflowClient]]:
    """Run a worker process on a new store, and lend it with a client of this process."""
    with tempfile.TemporaryDirectory(prefix="latency-", dir=bench.place) as place, Queue.open(place) as queue:
        with child(work, Path(place)) as worker:
            worker.hear()
            yield worker, WorkflowClient(queue)


def tell_latency(pipe: Connection, store: Path | str) -> None:
    def run_step(step: Step) -> StepOutcome:
        pipe.send((time.monotonic_ns() - int(step.payload)) / 1e6)
        return Succeed()

    _serve(pipe, store, run_step)


def _tell_cancels(pipe: Connection, store: Path) -> None:
    def run_step(step: Step) -> StepOutcome:
        pipe.send("started")
        step.cancel_token.wait(WAIT_SECONDS)
        pipe.send(time.monotonic_ns())
        return Succeed()

    _serve(pipe, store, run_step)


def _serve(pipe: Connection, store: Path | str, run_step: Callable[[Step], StepOutcome]) -> None:
    with Queue.open(store) as queue, WorkflowRuntime(queue, run_step):
        pipe.send("ready")
        pipe.recv()  # until the parent kills this process


def now() -> bytes:
    # The monotonic clock, which all processes of a machine share.
    return str(time.monotonic_ns()).encode()
