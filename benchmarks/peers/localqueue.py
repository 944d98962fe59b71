"""Measure localqueue: durable SimpleQueue with its Worker in threads, jobs that do nothing.

A job costs two commits: claimed with a lease, then acknowledged.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from pathlib import Path

from localqueue import DurabilityMode, SimpleQueue, Worker
from localqueue.job import Job

from .measure import FSYNC_PER_COMMIT, Meter, Setting, main

NOTES = "DurabilityMode.DURABLE (checked: synchronous=FULL); no history rows; enqueueing is not timed"


def run_jobs(workers: int, queue_per_worker: bool, directory: Path, meter: Meter) -> None:
    """Run the meter's steps as jobs; `queue_per_worker` gives every thread a connection of its own."""
    with _open(directory) as queue:
        shown = queue.diagnostics()
        if (shown.journal_mode, shown.synchronous) != ("wal", 2):
            raise RuntimeError(f"not durable: journal_mode={shown.journal_mode}, synchronous={shown.synchronous}")
        queue.put_many([{"step": number} for number in range(meter.total)])
        queues = [_open(directory) if queue_per_worker else queue for _ in range(workers)]

        def step(_job: Job[object]) -> None:
            meter.step()

        pool = [Worker(each, step, poll_interval=0.05) for each in queues]
        threads = [threading.Thread(target=worker.run) for worker in pool]
        for thread in threads:
            thread.start()
        try:
            meter.wait()
        finally:
            for worker in pool:
                worker.stop()
            for thread in threads:
                thread.join()
        stats = queue.stats()
        for each in queues:
            each.close()
    meter.expect(stats["acked"])


def _open(directory: Path) -> SimpleQueue[object]:
    return SimpleQueue(str(directory), durability=DurabilityMode.DURABLE)


if __name__ == "__main__":
    logging.getLogger("localqueue").setLevel(logging.ERROR)
    main(
        "localqueue",
        {
            "1 worker": Setting(partial(run_jobs, 1, False)),
            "4 workers, one queue object": Setting(partial(run_jobs, 4, False)),
            "16 workers, one queue object": Setting(partial(run_jobs, 16, False)),
            "4 workers, a queue object each": Setting(partial(run_jobs, 4, True)),
        },
        durability=FSYNC_PER_COMMIT,
        notes=NOTES,
    )
