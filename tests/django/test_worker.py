"""The worker as a process: it begins anew when the code changes, ends on a signal, and repeats what a kill cut off."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.django.support import SHOP, environment, manage
from tests.support import wait_until

pytest.importorskip("django")

PATIENCE = 60.0


def test_the_worker_begins_anew_when_the_code_changes_in_debug(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(SHOP, project, ignore=shutil.ignore_patterns("data", "__pycache__"))
    data = tmp_path / "data"
    manage(data, "migrate", "-v0", cwd=project)
    with (tmp_path / "log").open("wb") as log:
        # From elsewhere: what is watched is the project, not where it was started.
        worker = subprocess.Popen(
            [sys.executable, str(project / "manage.py"), "taquba_worker"],
            cwd=tmp_path,
            env=environment(data, SHOP_DEBUG="1"),
            stdout=log,
            stderr=log,
        )
        try:
            assert _ordered(data, project, 1) == "parcel-1"
            source = (project / "shop" / "workflows.py").read_text()
            (project / "shop" / "workflows.py").write_text(source.replace('f"parcel-', 'f"box-'))
            told = tmp_path / "log"
            wait_until(lambda: b"the worker begins anew" in told.read_bytes(), "the second life", PATIENCE)
            assert _ordered(data, project, 2) == "box-2"
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(PATIENCE) == 0
        finally:
            worker.kill()
            worker.wait()


def _ordered(data: Path, project: Path, number: int) -> str:
    """Place an order and return the parcel that it is shipped in."""
    script = (
        "from shop.models import Order; from shop.workflows import *\n"
        "order = Order.objects.create(email='a@b.c', item='x', cents=1)\n"
        f"print(orders.submit(Placed(order.pk), run_id='o-{number}').result(timeout=60))"
    )
    return manage(data, "shell", "-v0", "-c", script, cwd=project).strip()


KILLS = """
import os, signal
import django
django.setup()
from taquba_workflow_sync.contrib.django.stores import stores
from taquba_workflow_sync.contrib.django.worker import runtime
from tests.django.inside.extra.tasks import die

result = die.enqueue()
stores().close()
for _ in range(3):
    child = os.fork()
    if child == 0:
        runtime().run_until_idle()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL)
print(runtime().run_until_idle().steps)
result.refresh()
print(result.status, result.attempts, [error.exception_class.__name__ for error in result.errors])
print(len(stores().plain("default").dead_jobs("tasks-default").jobs))
"""


def test_a_task_whose_worker_is_killed_is_begun_three_times(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLS],
        env=environment(tmp_path, DJANGO_SETTINGS_MODULE="tests.django.inside.settings"),
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.stdout.splitlines() == ["True", "True", "True", "0", "FAILED 3 ['RunFailedError']", "1"], done.stderr


def test_the_shop_of_the_examples_passes_its_own_tests(tmp_path: Path) -> None:
    assert "no issues" in manage(tmp_path, "test")
    assert "No changes detected" in manage(tmp_path, "makemigrations", "--check", "--dry-run")
