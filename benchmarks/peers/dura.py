"""Measure dura: its worker threads run tasks whose handler makes a chain of checkpoints that do nothing.

A step is a checkpoint: one commit that stores its result. Claiming and completing a task are commits of their own, one
each per chain.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

from dura import ClaimedTask, DurableEngine, run_worker

from .measure import FSYNC_PER_COMMIT, STEPS_PER_RUN, Meter, Setting, count, main, require_wal_and_full_fsync

NOTES = (
    "WAL; synchronous is left at SQLite's default, FULL (checked); a step is a checkpoint of a task with "
    f"{STEPS_PER_RUN}; enqueueing is not timed"
)


def run_checkpoints(workers: int, directory: Path, meter: Meter) -> None:
    """Run the meter's steps as checkpoints of tasks."""
    database = directory / "dura.db"
    engine = DurableEngine(database)
    require_wal_and_full_fsync(database)

    def handler(engine: DurableEngine, task: ClaimedTask) -> None:
        for number in range(STEPS_PER_RUN):
            engine.checkpoint(task_id=task.task_id, step_name=str(number), fn=meter.step)

    tasks = meter.total // STEPS_PER_RUN
    for number in range(tasks):
        engine.spawn_task(name="run", params=number)
    stop = threading.Event()
    threads = [
        threading.Thread(
            target=run_worker,
            args=(engine,),
            kwargs={"handlers": {"run": handler}, "worker_id": str(n), "stop_event": stop, "poll_interval": 0.01},
        )
        for n in range(workers)
    ]
    for thread in threads:
        thread.start()
    try:
        meter.wait()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if engine.task_counts_by_state() != {"completed": tasks}:
        raise RuntimeError(f"tasks by state: {engine.task_counts_by_state()}, expected {tasks} completed")
    engine.close()
    meter.expect(count(database, "SELECT count(*) FROM checkpoints"))


if __name__ == "__main__":
    main(
        "dura",
        {
            "1 worker": Setting(partial(run_checkpoints, 1), unit=STEPS_PER_RUN),
            "4 workers": Setting(partial(run_checkpoints, 4), unit=STEPS_PER_RUN),
            "16 workers": Setting(partial(run_checkpoints, 16), unit=STEPS_PER_RUN),
        },
        durability=FSYNC_PER_COMMIT,
        notes=NOTES,
    )
