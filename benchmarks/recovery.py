"""How long a step whose process was killed waits for its next attempt."""

from __future__ import annotations

import random
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.children import child
from benchmarks.figures import Bench, Section
from taquba_workflow_sync import Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowClient, WorkflowRuntime

# Longer than any sample takes: the step is killed in it.
STEP_SECONDS = 300.0
# The survivor has nothing to do for so long before the kill, as a worker that waits for work.
SETTLE_SECONDS = 1.5
# The kill comes anywhere in the interval at which a survivor probes the owners, not always at its end.
SPREAD_SECONDS = 0.5


def measure(bench: Bench) -> list[Section]:
    section = Section(
        "Recovery after kill -9",
        "A worker process is killed in mid-step (leases of 30 s). Until the next attempt of that step starts: from the"
        " kill, where another worker lives; from the opening of the store, where a new process is started.",
    )
    samples = max(3, bench.scale.slow_samples)
    section.add("recovery.alive", "another worker lives", [_taken_over(bench) for _ in range(samples)], "ms")
    section.add("recovery.next", "the next process that starts", [_restarted(bench) for _ in range(samples)], "ms")
    return [section]


def _taken_over(bench: Bench) -> float:
    with tempfile.TemporaryDirectory(prefix="recovery-", dir=bench.place) as place, Queue.open(place) as queue:
        store = Path(place)
        with child(_work, store) as victim:
            victim.hear()
            WorkflowClient(queue).submit(RunSpec(input=b""))
            _expect_attempt(victim.hear(), 1)
            with child(_work, store) as survivor:
                survivor.hear()
                time.sleep(SETTLE_SECONDS + random.uniform(0.0, SPREAD_SECONDS))
                killed_at = victim.kill()
                return (_expect_attempt(survivor.hear(), 2) - killed_at) / 1e6


def _restarted(bench: Bench) -> float:
    with tempfile.TemporaryDirectory(prefix="recovery-", dir=bench.place) as place:
        store = Path(place)
        with Queue.open(store) as queue:
            WorkflowClient(queue).submit(RunSpec(input=b""))
        with child(_work, store) as victim:
            victim.hear()
            _expect_attempt(victim.hear(), 1)
        with child(_work, store) as successor:
            opened_at: int = successor.hear()
            return (_expect_attempt(successor.hear(), 2) - opened_at) / 1e6


def _expect_attempt(heard: tuple[int, int], number: int) -> int:
    """Return when the attempt started. Raises RuntimeError if it is another one."""
    attempt, at = heard
    if attempt != number:
        raise RuntimeError(f"attempt {attempt} started, not {number}")
    return at


def _work(pipe: Connection, store: Path) -> None:
    def run_step(step: Step) -> StepOutcome:
        pipe.send((step.attempts, time.monotonic_ns()))
        if step.attempts == 1:
            time.sleep(STEP_SECONDS)
        return Succeed()

    pipe.send(time.monotonic_ns())
    with Queue.open(store) as queue, WorkflowRuntime(queue, run_step):
        pipe.recv()  # until the parent kills this process
