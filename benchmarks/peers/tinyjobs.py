"""Measure tinyjobs: its worker, in an event loop of the main thread, runs jobs that do nothing.

tinyjobs sets synchronous=NORMAL on every connection and has no option for it: a power cut loses the last commits. For
comparison the same is measured with that one pragma replaced.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from pathlib import Path

from tinyjobs import TinyJobs
from tinyjobs.backends.sqlite import connection as sqlite_connection
from tinyjobs.models import Job, JobPayload
from tinyjobs.options import EnqueueOptions

from .measure import BATCH_LIMIT_SECONDS, Meter, Setting, WorkIncompleteError, main

NOTES = (
    "synchronous=NORMAL is fixed in its source, so commits are not fsynced and the figure is not that of a durable "
    "queue; 'FULL patched in' is not a setting that its users have; enqueueing is not timed"
)
FULL_PRAGMAS = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL")


def run_jobs(concurrency: int, full_fsync: bool, as_coroutines: bool, directory: Path, meter: Meter) -> None:
    """Run the meter's steps as jobs."""
    shipped = sqlite_connection.FILE_PRAGMAS
    if full_fsync:
        sqlite_connection.FILE_PRAGMAS = FULL_PRAGMAS
    try:
        asyncio.run(_run_jobs(concurrency, as_coroutines, directory, meter))
    finally:
        sqlite_connection.FILE_PRAGMAS = shipped


async def _run_jobs(concurrency: int, as_coroutines: bool, directory: Path, meter: Meter) -> None:
    async with TinyJobs(f"sqlite:///{directory / 'tinyjobs.db'}") as app:

        def step() -> None:
            meter.step()

        async def step_coroutine() -> None:
            meter.step()

        task = app.task(step_coroutine if as_coroutines else step, name="step")
        await app.backend.enqueue_many([_job(app, task.name) for _ in range(meter.total)])
        worker = app.worker(
            concurrency=concurrency, handle_signals=False, scheduler=False, poll_minimum=0.001, poll_maximum=0.01
        )
        running = asyncio.create_task(worker.start())
        try:
            if not await asyncio.to_thread(meter.finished.wait, BATCH_LIMIT_SECONDS):
                raise WorkIncompleteError(f"{meter.total} jobs did not end within {BATCH_LIMIT_SECONDS:.0f} s")
        finally:
            worker.stop()
            await running
        counts = await app.acounts()
    meter.expect(counts.get("success", 0))


def _job(app: TinyJobs, task: str) -> Job:
    return app.dispatch.build(task, JobPayload(args=(), kwargs={}), EnqueueOptions())


if __name__ == "__main__":
    logging.getLogger("tinyjobs").setLevel(logging.CRITICAL)
    main(
        "tinyjobs",
        {
            "coroutines, concurrency 16": Setting(partial(run_jobs, 16, False, True)),
            "functions, concurrency 16": Setting(partial(run_jobs, 16, False, False)),
            "functions, concurrency 1": Setting(partial(run_jobs, 1, False, False)),
            "coroutines, concurrency 16, FULL patched in": Setting(
                partial(run_jobs, 16, True, True), only_for_comparison=True
            ),
        },
        durability="no fsync per commit (WAL, synchronous=NORMAL)",
        notes=NOTES,
    )
