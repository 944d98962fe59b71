"""Measure huey: SqliteHuey with fsync=True and its real consumer with worker threads, tasks that do nothing.

Three ways to do the work: independent tasks, all enqueued before the consumer starts (a task costs one commit, which
*deletes* it before it runs); chains, where each task enqueues the next one of its run (two commits); and pipelines,
huey's own chains (two commits, and every message carries the rest of the pipeline).
"""

from __future__ import annotations

import logging
from functools import partial, reduce
from pathlib import Path

from huey import SqliteHuey
from huey.consumer import Consumer
from huey.signals import SIGNAL_COMPLETE

from .measure import FSYNC_PER_COMMIT, STEPS_PER_RUN, Meter, Setting, main

NOTES = (
    "SqliteHuey(fsync=True), consumer in the same process; a task leaves the database before it runs, so a killed "
    "worker loses it, and no history or lease is written; results off; enqueueing of independent tasks is not timed; "
    "only chains and pipelines do what a run of steps needs"
)
PIPELINE_LENGTH = 10


def run_tasks(workers: int, chain: int, pipeline: bool, directory: Path, meter: Meter) -> None:
    """Run the meter's steps as tasks, `chain` of them one after the other."""
    huey = SqliteHuey("bench", filename=str(directory / "huey.db"), fsync=True, results=False)
    completed: list[None] = []

    def execute(left: int = 0) -> None:
        meter.step()
        if left:
            step(left - 1)

    def complete(_signal: str, _task: object) -> None:
        completed.append(None)

    step = huey.task()(execute)
    huey.signal(SIGNAL_COMPLETE)(complete)

    for _ in range(meter.total // chain):
        if pipeline:
            huey.enqueue(reduce(lambda tasks, _: tasks.then(step), range(chain - 1), step.s()))
        else:
            step(chain - 1)
    consumer = Consumer(
        huey, workers=workers, periodic=False, initial_delay=0.001, max_delay=0.01, check_worker_health=False
    )
    consumer.start()
    try:
        meter.wait()
    finally:
        consumer.stop(graceful=True)
    meter.expect(len(completed))
    if huey.pending_count():
        raise RuntimeError(f"{huey.pending_count()} tasks are left")
    huey.storage.close()


if __name__ == "__main__":
    logging.getLogger("huey").setLevel(logging.ERROR)
    main(
        "huey",
        {
            "tasks, 1 worker": Setting(partial(run_tasks, 1, 1, False)),
            "tasks, 16 workers": Setting(partial(run_tasks, 16, 1, False)),
            "chains, 1 worker": Setting(partial(run_tasks, 1, STEPS_PER_RUN, False), unit=STEPS_PER_RUN),
            "chains, 16 workers": Setting(partial(run_tasks, 16, STEPS_PER_RUN, False), unit=STEPS_PER_RUN),
            "pipelines, 16 workers": Setting(partial(run_tasks, 16, PIPELINE_LENGTH, True), unit=PIPELINE_LENGTH),
        },
        durability=FSYNC_PER_COMMIT,
        notes=NOTES,
    )
