"""What the tests of the queue, the workflow and the API share: patience, a leak check, a few short cuts."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from taquba_workflow_sync import Claim, JobRecord, Queue, run_worker

_T = TypeVar("_T")

PATIENCE = 30.0
START = datetime(2026, 1, 1, tzinfo=UTC)


def wait_until(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Return once ``condition`` holds; fail after half a minute."""
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about in {PATIENCE} s"
        pause.wait(0.002)


def await_event(event: threading.Event, what: str = "the event") -> None:
    assert event.wait(PATIENCE), f"{what} did not happen in {PATIENCE} s"


@contextmanager
def no_thread_left_behind() -> Iterator[None]:
    """Fail if the block leaves a thread running that was not there before."""
    before = set(threading.enumerate())
    yield
    for thread in _new_threads(before):
        thread.join(PATIENCE)
    left = [thread.name for thread in _new_threads(before)]
    assert not left, f"threads left behind: {left}"


def _new_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    # A thread that Python did not start (the clerk, for a second after a write) has a stand-in once it has logged,
    # which Python never takes away.
    return {each for each in set(threading.enumerate()) - before if not isinstance(each, threading._DummyThread)}


def in_thread(call: Callable[[], _T]) -> Callable[[], _T]:
    """Start ``call`` on a thread; the function returned joins it and gives its value or raises its error."""
    result: list[_T] = []
    error: list[BaseException] = []

    def body() -> None:
        try:
            result.append(call())
        except BaseException as caught:
            error.append(caught)

    thread = threading.Thread(target=body, name="test-helper")
    thread.start()

    def join() -> _T:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the helper thread hangs"
        if error:
            raise error[0]
        return result[0]

    return join


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
