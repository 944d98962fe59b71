"""Measure procrastinate: its worker, asynchronous tasks that do nothing, all deferred before it starts.

A job costs two commits: fetched, then finished. Triggers of its schema write an event row for each.
"""

from __future__ import annotations

import asyncio
import logging

from procrastinate import App, PsycopgConnector

from ..measure import Meter, Timing
from .measure import main

NOTES = (
    "one process, concurrency as many as there are workers, coroutines instead of threads, finished jobs are kept, as is "
    "its default; deferring is not timed"
)
_SUBMIT_BATCH = 1_000


def prepare(url: str) -> None:
    """Make its schema."""

    async def make() -> None:
        async with _app(url, 1).open_async() as app:
            await app.schema_manager.apply_schema_async()

    asyncio.run(make())


def run_tasks(url: str, workers: int, steps: int) -> Timing:
    """Run the meter's steps as jobs."""
    meter = Meter(steps)
    app = _app(url, workers)

    @app.task(name="step")
    async def step() -> None:
        meter.step()

    async def work() -> int:
        async with app.open_async():
            before = await _succeeded(app)
            for start in range(0, steps, _SUBMIT_BATCH):
                await step.batch_defer_async(*[{} for _ in range(min(_SUBMIT_BATCH, steps - start))])
            await app.run_worker_async(wait=False, concurrency=workers, install_signal_handlers=False)
            return await _succeeded(app) - before

    meter.expect(asyncio.run(work()))
    return meter.timing()


def _app(url: str, workers: int) -> App:
    return App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=min(workers, 16) + 3))


async def _succeeded(app: App) -> int:
    row = await app.connector.execute_query_one_async(
        "SELECT count(*) AS found FROM procrastinate_jobs WHERE status = 'succeeded'"
    )
    return row["found"]


if __name__ == "__main__":
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    main("procrastinate", prepare, run_tasks, notes=NOTES)
