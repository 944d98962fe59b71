"""Measure DBOS on PostgreSQL: workflows, started on its thread pool, that are a chain of steps that do nothing.

A step is one commit, that of its result; starting and ending a workflow are commits of their own, one each per chain.
"""

from __future__ import annotations

import logging

import psycopg
from dbos import DBOS, DBOSConfig

from ..measure import STEPS_PER_RUN, Meter, Timing
from .measure import main

NOTES = (
    f"a step is a step of a workflow with {STEPS_PER_RUN}, threads of its pool as many as there are workers; starting the "
    "workflows is timed, as they start while others run; no queue in between"
)


def prepare(url: str) -> None:
    """Nothing: launching makes its tables."""


def run_workflows(url: str, workers: int, steps: int) -> Timing:
    """Run the meter's steps as steps of workflows."""
    meter = Meter(steps)
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": url,
        "max_executor_threads": workers,
        "sys_db_pool_size": workers + 4,
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
        before = _recorded(url)
        for handle in [DBOS.start_workflow(workflow) for _ in range(steps // STEPS_PER_RUN)]:
            handle.get_result(polling_interval_sec=0.05)
    finally:
        DBOS.destroy(destroy_registry=True)
    meter.expect(_recorded(url) - before)
    return meter.timing()


def _recorded(url: str) -> int:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT count(*) FROM dbos.operation_outputs").fetchone()[0]


if __name__ == "__main__":
    logging.getLogger("dbos").setLevel(logging.CRITICAL)
    main("dbos", prepare, run_workflows, notes=NOTES, unit=STEPS_PER_RUN)
