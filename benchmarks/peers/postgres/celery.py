"""Measure Celery over its SQLAlchemy transport: one worker with a pool of threads, tasks that do nothing.

A message costs one commit, which marks it as delivered before the task runs; nothing gives it back when the worker is
killed.
"""

from __future__ import annotations

import logging
import threading

import psycopg2
from celery import Celery
from celery.worker import state

from ..measure import Meter, Timing
from .measure import main

NOTES = (
    "one process, a pool of threads as many as there are workers; a message is marked as delivered before its task runs, "
    "and a killed worker's are never given back, so it is not durable; results off; sending is not timed"
)


def prepare(url: str) -> None:
    """Nothing: its transport makes its tables."""


def run_tasks(url: str, workers: int, steps: int) -> Timing:
    """Run the meter's steps as tasks."""
    meter = Meter(steps)
    app = Celery("bench", broker=url.replace("postgresql://", "sqla+postgresql+psycopg2://"), backend=None)
    app.conf.update(
        task_ignore_result=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
    )

    @app.task(name="step")
    def step() -> None:
        meter.step()

    before = _delivered(url)
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for _ in range(steps):
            step.apply_async(producer=producer)
    state.should_stop = None
    worker = app.Worker(
        pool="threads", concurrency=workers, loglevel="ERROR", without_gossip=True, without_mingle=True,
        without_heartbeat=True, optimization="fair", quiet=True,
    )

    def end() -> None:
        try:
            meter.wait()
        finally:
            state.should_stop = 0

    threading.Thread(target=end).start()
    try:
        worker.start()
    except SystemExit:
        pass
    meter.expect(_delivered(url) - before)
    return meter.timing()


def _delivered(url: str) -> int:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('kombu_message') IS NOT NULL")
            if not cursor.fetchone()[0]:
                return 0
            cursor.execute("SELECT count(*) FROM kombu_message WHERE NOT visible")
            return cursor.fetchone()[0]
    finally:
        connection.close()


if __name__ == "__main__":
    logging.getLogger("celery").setLevel(logging.CRITICAL)
    main("celery", prepare, run_tasks, notes=NOTES)
