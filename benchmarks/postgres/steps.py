"""Steps per second of this library on a server: workers of one process, and of several."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from benchmarks.peers.measure import Meter, Timing
from benchmarks.postgres.window import rate_of
from benchmarks.steps import PAYLOAD, STEPS_PER_RUN, submit_runs
from taquba_workflow_sync import Continue, Queue, Step, StepOutcome, Succeed, WorkflowClient, WorkflowRuntime

ENDLESS_RUNS = 1_000


def run_steps(url: str, steps: int, workers: int) -> Timing:
    """Execute `steps` steps in a new store of a database, in runs submitted before, and time all but the first fifth.

    Raises WorkIncompleteError if the store's own counts differ.
    """
    runs = max(1, round(steps / STEPS_PER_RUN))
    meter = Meter(runs * STEPS_PER_RUN)

    def run_step(step: Step) -> StepOutcome:
        meter.step()
        return Continue(PAYLOAD) if step.step_number < STEPS_PER_RUN - 1 else Succeed()

    with Queue.open(url) as queue:
        runtime = WorkflowRuntime(queue, run_step, max_concurrent_steps=workers)
        submit_runs(runtime, runs)
        with runtime:
            meter.wait()
        meter.expect(queue.stats(runtime.queue_name).done * STEPS_PER_RUN)
    return meter.timing()


def rate_of_processes(
    urls: Sequence[str],
    workers: int,
    seconds: float,
    durability: str = "full",
    watch: Callable[[float, float], None] | None = None,
) -> list[float]:
    """Return the steps per second of a worker process for each URL, of one store or several, in one window."""
    for url in dict.fromkeys(urls):
        with Queue.open(url) as queue:
            submit_runs(WorkflowClient(queue), ENDLESS_RUNS)
    counted = rate_of(_work_for_a_while, urls, seconds, workers, durability, watch=watch)
    return [ended / seconds for ended in counted]


def _work_for_a_while(pipe: Connection, url: str, workers: int, durability: str) -> None:
    ended: list[float] = []

    def run_step(step: Step) -> StepOutcome:
        ended.append(time.monotonic())
        return Continue(PAYLOAD)

    with Queue.open(url, durability=durability) as queue:
        pipe.send("ready")
        began, over = pipe.recv()
        with WorkflowRuntime(queue, run_step, max_concurrent_steps=workers):
            time.sleep(max(0.0, over - time.monotonic()))
        pipe.send(sum(began <= at < over for at in ended))
