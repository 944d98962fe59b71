"""Measure pgqueuer: its queue manager, asynchronous entrypoints that do nothing, all enqueued before it starts.

Jobs are fetched in batches, one commit each; ends are buffered and written in batches, too, so that a process that is
killed has forgotten the ends of the last tenth of a second, and what had ended runs again.
"""

from __future__ import annotations

import asyncio
import logging

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.types import QueueExecutionMode

from ..measure import Meter, Timing
from .measure import main

NOTES = (
    "one process, asyncpg, coroutines instead of threads, batches of as many as there are workers and twice as many at "
    "once, which is its least; the end of a job is written up to 0.1 s after it; enqueueing is not timed"
)
_SUBMIT_BATCH = 1_000


def prepare(url: str) -> None:
    """Make its schema."""

    async def make() -> None:
        connection = await asyncpg.connect(url)
        try:
            await PgQueuer.from_asyncpg_connection(connection).qm.queries.install()
        finally:
            await connection.close()

    asyncio.run(make())


def run_jobs(url: str, workers: int, steps: int) -> Timing:
    """Run the meter's steps as jobs."""
    meter = Meter(steps)

    async def work() -> int:
        connection = await asyncpg.connect(url)
        try:
            pgq = PgQueuer.from_asyncpg_connection(connection)

            @pgq.entrypoint("step")
            async def step(_job: object) -> None:
                meter.step()

            before = await _logged(connection)
            for start in range(0, steps, _SUBMIT_BATCH):
                many = min(_SUBMIT_BATCH, steps - start)
                await pgq.qm.queries.enqueue(["step"] * many, [None] * many, [0] * many)
            await pgq.run(batch_size=workers, max_concurrent_tasks=2 * workers, mode=QueueExecutionMode.drain)
            return await _logged(connection) - before
        finally:
            await connection.close()

    meter.expect(asyncio.run(work()))
    return meter.timing()


async def _logged(connection: asyncpg.Connection) -> int:
    return await connection.fetchval("SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'")


if __name__ == "__main__":
    logging.getLogger("pgqueuer").setLevel(logging.ERROR)
    main("pgqueuer", prepare, run_jobs, notes=NOTES)
