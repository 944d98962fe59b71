"""How long a signal takes to the step that was waited with; in its process and from another one."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

from benchmarks.children import Child, child
from benchmarks.figures import Bench, Section, percentile
from taquba_workflow_sync import ContinueOnSignal, Queue, Step, StepOutcome, WorkflowClient, WorkflowRuntime

StepFunction = Callable[[Step], StepOutcome]
RUN_ID = "waits"
PATIENCE_SECONDS = 30.0
# A worker looks more often for a second after it had something to do; past that it counts as idle.
IDLE_AFTER_SECONDS = 1.2
BATCH = 500


def measure(bench: Bench) -> list[Section]:
    section = Section(
        "Signals",
        "From just before the call until the step that was waited with has started, fsync of the signal included; the"
        f" sender pauses at random between the samples. A worker is idle when it has had nothing to do for"
        f" {IDLE_AFTER_SECONDS} s.",
    )
    scale = bench.scale
    _add(section, "signal.inside", "signal to start, one process", _inside(bench, scale.samples, 0.0))
    _add(section, "signal.across", "signal to start, another process", _across(bench, scale.samples, 0.0))
    _add(
        section,
        "signal.across.idle",
        "signal to start, another process, idle",
        _across(bench, scale.slow_samples, IDLE_AFTER_SECONDS),
    )
    section.add("signal.buffered", "signals buffered one after the other", _buffered(bench), "signals/s")
    return [section]


def _add(section: Section, key: str, what: str, milliseconds: list[float]) -> None:
    section.add(key, f"{what}: median of {len(milliseconds)}", [statistics.median(milliseconds)], "ms")
    section.add(f"{key}.p99", f"{what}: 99th percentile", [percentile(milliseconds, 0.99)], "ms")


def _pause(least: float) -> None:
    # Random, so that no sample is in step with a poll of the worker.
    time.sleep(least + random.uniform(0.005, 0.060))


def _until_it_waits(client: WorkflowClient) -> None:
    while (status := client.status(RUN_ID)) is None or status.waiting_for is None:
        time.sleep(0.0005)


def _waiter(tell: Callable[[float], None]) -> StepFunction:
    """A runner whose steps tell how long their signal took, and wait for the next one."""

    def run_step(step: Step) -> StepOutcome:
        if step.signal is not None:
            tell((time.monotonic_ns() - int(step.signal.payload)) / 1e6)
        return ContinueOnSignal(b"", "go")

    return run_step


def _inside(bench: Bench, samples: int, pause: float) -> list[float]:
    took: list[float] = []
    told: SimpleQueue[float] = SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="signals-", dir=bench.place) as store, Queue.open(store) as queue:
        with WorkflowRuntime(queue, _waiter(told.put)) as runtime:
            runtime.submit(run_id=RUN_ID)
            for _ in range(samples + 1):
                _until_it_waits(runtime)
                _pause(pause)
                runtime.signal(RUN_ID, "go", _now())
                took.append(told.get(timeout=PATIENCE_SECONDS))
    return took[1:]


def _across(bench: Bench, samples: int, pause: float) -> list[float]:
    took: list[float] = []
    with _worker(bench) as (worker, client):
        client.submit(run_id=RUN_ID)
        for _ in range(samples + 1):
            _until_it_waits(client)
            _pause(pause)
            client.signal(RUN_ID, "go", _now())
            took.append(worker.hear())
    return took[1:]


def _buffered(bench: Bench) -> list[float]:
    rates: list[float] = []
    with tempfile.TemporaryDirectory(prefix="signals-", dir=bench.place) as store, Queue.open(store) as queue:
        client = WorkflowClient(queue)
        for number in range(bench.scale.rounds):
            client.submit(run_id=f"r{number}")
            began = time.monotonic()
            for each in range(BATCH):
                client.signal(f"r{number}", "go", b"x" * 100, signal_id=str(each))
            rates.append(BATCH / (time.monotonic() - began))
    return rates


@contextmanager
def _worker(bench: Bench) -> Iterator[tuple[Child, WorkflowClient]]:
    """Run a worker process on a new store, and lend it with a client of this process."""
    with tempfile.TemporaryDirectory(prefix="signals-", dir=bench.place) as place, Queue.open(place) as queue:
        with child(_serve, Path(place)) as worker:
            worker.hear()
            yield worker, WorkflowClient(queue)


def _serve(pipe: Connection, store: Path) -> None:
    with Queue.open(store) as queue, WorkflowRuntime(queue, _waiter(pipe.send)):
        pipe.send("ready")
        pipe.recv()  # until the parent kills this process


def _now() -> bytes:
    # The monotonic clock, which all processes of a machine share.
    return str(time.monotonic_ns()).encode()
