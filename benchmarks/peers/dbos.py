"""Measure DBOS on SQLite: workflows, started on its thread pool, that are a chain of steps that do nothing.

A step is one commit, that of its result; starting and ending a workflow are commits of their own, one each per chain.
DBOS leaves SQLite in rollback-journal mode; the same file put into WAL mode beforehand, which a user can do, is
measured as well.
"""

from __future__ import annotations

import logging
import sqlite3
from functools import partial
from pathlib import Path

from dbos import DBOS, DBOSConfig

from .measure import FSYNC_PER_COMMIT, STEPS_PER_RUN, Meter, Setting, count, main

NOTES = (
    "synchronous is left at SQLite's default, FULL (checked); a step is a step of a workflow with "
    f"{STEPS_PER_RUN}; starting the workflows is timed, as they start while others run; "
    "no PostgreSQL, which is what DBOS recommends for production"
)


def run_workflows(threads: int, wal: bool, directory: Path, meter: Meter) -> None:
    """Run the meter's steps as steps of workflows."""
    database = directory / "dbos.db"
    _prepare(database, wal)
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": f"sqlite:///{database}",
        "max_executor_threads": threads,
        "sys_db_pool_size": threads + 4,
        "log_level": "CRITICAL",
        "enable_otlp": False,
        "application_version": "1",
        "executor_id": "bench",
    }

    def execute() -> None:
        meter.step()

    def chain() -> None:
        for _ in range(STEPS_PER_RUN):
            step()

    DBOS(config=config)
    try:
        step = DBOS.step()(execute)
        workflow = DBOS.workflow()(chain)
        DBOS.launch()
        handles = [DBOS.start_workflow(workflow) for _ in range(meter.total // STEPS_PER_RUN)]
        for handle in handles:
            handle.get_result(polling_interval_sec=0.05)
    finally:
        DBOS.destroy(destroy_registry=True)
    succeeded = count(database, "SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'")
    if succeeded != len(handles):
        raise RuntimeError(f"{succeeded} of {len(handles)} workflows succeeded")
    meter.expect(count(database, "SELECT count(*) FROM operation_outputs"))


def _prepare(database: Path, wal: bool) -> None:
    connection = sqlite3.connect(database)
    try:
        if wal:
            connection.execute("PRAGMA journal_mode=WAL")
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    finally:
        connection.close()
    if synchronous != 2:
        raise RuntimeError(f"not durable: synchronous={synchronous}")


if __name__ == "__main__":
    logging.getLogger("dbos").setLevel(logging.CRITICAL)
    main(
        "dbos",
        {
            "1 thread": Setting(partial(run_workflows, 1, False), unit=STEPS_PER_RUN),
            "16 threads": Setting(partial(run_workflows, 16, False), unit=STEPS_PER_RUN),
            "1 thread, WAL": Setting(partial(run_workflows, 1, True), unit=STEPS_PER_RUN),
            "16 threads, WAL": Setting(partial(run_workflows, 16, True), unit=STEPS_PER_RUN),
        },
        durability=FSYNC_PER_COMMIT,
        notes=NOTES,
    )
