"""Measure django-tasks-db: the workers of its db_worker command, one process each, tasks that do nothing.

A task costs two commits: claimed, then finished. A worker is one process and one thread, so as many processes as workers
are forked, once Django is set up. Times are those that it stores with each result.
"""

from __future__ import annotations

import logging
import os

import django
from django.conf import settings

from ..measure import WARMUP_SHARE, Timing
from .measure import main

NOTES = (
    "db_worker's own Worker, forked processes as many as there are workers, persistent connections, DEBUG off; by the "
    "times it stores; enqueueing is not timed"
)


def prepare(url: str) -> None:
    """Set Django up and make its tables."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username,
        "HOST": parts.hostname,
        "PORT": parts.port,
        "CONN_MAX_AGE": None,
    }
    settings.configure(
        DATABASES={"default": database},
        INSTALLED_APPS=["django_tasks", "django_tasks_db"],
        TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
        USE_TZ=True,
        LOGGING_CONFIG=None,
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def step() -> None:
    """Do nothing."""


def run_tasks(url: str, workers: int, steps: int) -> Timing:
    """Run so many tasks in forked workers."""
    from django.db import connection, transaction
    from django_tasks import task
    from django_tasks_db.management.commands.db_worker import Worker
    from django_tasks_db.models import DBTaskResult

    DBTaskResult.objects.all().delete()
    globals()["step"] = no_op = task()(step) if not hasattr(step, "enqueue") else step
    with transaction.atomic():
        for _ in range(steps):
            no_op.enqueue()
    connection.close()
    pids = []
    for number in range(workers):
        pid = os.fork()
        if pid == 0:
            try:
                Worker(
                    queue_names=["default"],
                    interval=0.05,
                    batch=True,
                    backend_name="default",
                    startup_delay=False,
                    max_tasks=None,
                    worker_id=f"worker-{number}",
                    excluded_queue_names=[],
                ).run()
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    ended = sorted(DBTaskResult.objects.filter(status="SUCCESSFUL").values_list("finished_at", flat=True))
    if len(ended) != steps:
        raise RuntimeError(f"{len(ended)} of {steps} tasks were successful")
    counted = ended[int(steps * WARMUP_SHARE) :]
    return Timing(len(counted) - 1, (counted[-1] - counted[0]).total_seconds())


if __name__ == "__main__":
    for name in ("django_tasks", "django_tasks_db"):
        logging.getLogger(name).setLevel(logging.ERROR)
    main("django-tasks-db", prepare, run_tasks, notes=NOTES)
