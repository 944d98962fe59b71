"""Short cuts of the tests of the queue, the workflow and the API; what they wait with comes from ``tests.support``."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

from taquba_workflow_sync import Claim, JobRecord, Queue, run_worker
from tests.support import PATIENCE, await_event, in_thread, no_thread_left_behind, wait_until

__all__ = [
    "PATIENCE", "START", "await_event", "claimed", "corrupt", "counters", "in_thread", "no_thread_left_behind",
    "stored", "wait_until", "working",
]  # fmt: skip

START = datetime(2026, 1, 1, tzinfo=UTC)


@contextmanager
def working(queue: Queue, queue_name: str, worker: Any, **options: Any) -> Iterator[None]:
    """Have ``run_worker`` run on a thread during the block."""
    shutdown = threading.Event()
    join = in_thread(lambda: run_worker(queue, queue_name, worker, shutdown=shutdown, **options))
    try:
        yield
    finally:
        shutdown.set()
        join()


def claimed(queue: Queue, queue_name: str = "q", **options: Any) -> Claim:
    """Claim a job that must be there."""
    claim = queue.claim(queue_name, **options)
    assert claim is not None, f"nothing to claim in {queue_name!r}"
    return claim


def stored(queue: Queue, job_id: str) -> JobRecord:
    """Read a job that must be there."""
    record = queue.get_job(job_id)
    assert record is not None, f"job {job_id} is not there"
    return record


def counters(queue: Queue, queue_name: str = "q") -> dict[str, int]:
    """Return the counters of a queue that are not zero."""
    stats = queue.stats(queue_name)
    names = ("pending", "scheduled", "claimed", "done", "dead", "cancelled")
    return {name: getattr(stats, name) for name in names if getattr(stats, name)}


def corrupt(queue: Queue, statement: str, *values: object) -> None:
    """Change a stored row behind the library's back, as a broken or foreign program might."""
    with closing(sqlite3.connect(queue.path / "db" / "cache.db", timeout=PATIENCE)) as connection:
        with connection:
            assert connection.execute(statement, values).rowcount > 0, "the statement hit nothing"
