"""Runs Django's own tests of tasks against TaqubaBackend: ``python -m tests.django.djangos_tests SDIST DIRECTORY``.

``SDIST`` is that of the Django that is installed. Of its files only the names of the backends are rewritten, and
``clear()``, which those backends alone have; what is exempt is listed here, with the reason.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

#: Tests that ask which backend it is, or that a backend cannot do what this one can.
EXEMPT = {
    "test_immediate_backend": {
        "test_using_correct_backend": "asks for ImmediateBackend",
        "test_cannot_get_result": "this one can",
        "test_cannot_refresh_result": "this one can",
        "test_cannot_pass_run_after": "this one can",
    },
    "test_tasks": {
        "test_using_correct_backend": "asks for DummyBackend",
        "test_get_backend": "asks for DummyBackend",
        "test_enqueue_task": "looks into DummyBackend.results",
        "test_enqueue_task_async": "looks into DummyBackend.results",
    },
}
OURS = "taquba_workflow_sync.contrib.django.tasks.TaqubaBackend"
SETTINGS = """
SECRET_KEY = "tests"
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
INSTALLED_APPS = ["taquba_workflow_sync.contrib.django"]
TAQUBA = {{"default": {{"STORE": {store!r}, "DURABILITY": "relaxed"}}}}
USE_TZ = True
"""


def prepare(sdist: Path, directory: Path) -> list[str]:
    """Unpack and rewrite the tests of tasks; return the names of those to run."""
    tests = directory / "tasks"
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            found = re.fullmatch(r"[^/]+/tests/tasks/(\w+\.py)", member.name)
            source = archive.extractfile(member) if found else None
            if found and source is not None:
                tests.mkdir(parents=True, exist_ok=True)
                (tests / found[1]).write_bytes(source.read())
    (directory / "settings.py").write_text(SETTINGS.format(store=str(directory / "store")))
    immediate, dummy = "django.tasks.backends.immediate.ImmediateBackend", "django.tasks.backends.dummy.DummyBackend"
    names = []
    for module, exempt in EXEMPT.items():
        path = tests / f"{module}.py"
        text = path.read_text()
        text = text.replace(f'"{immediate}",', f'"{OURS}", "OPTIONS": {{"immediate": True}},')
        text = text.replace(f'"{dummy}",', f'"{OURS}",')
        text = text.replace("default_task_backend.clear()", "pass")
        path.write_text(text)
        kind = ""
        for line in text.splitlines():
            found = re.match(r"class (\w+)\(", line)
            kind = found[1] if found else kind
            found = re.match(r"    (?:async )?def (test_\w+)\(", line)
            if found and found[1] not in exempt:
                names.append(f"tasks.{module}.{kind}.{found[1]}")
    return names


def run(sdist: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run them; the last lines of stderr say how many, and how they went."""
    names = prepare(sdist, directory)
    command = [sys.executable, "-W", "error::DeprecationWarning:taquba_workflow_sync", "-m", "django", "test", *names]
    import os

    paths = [str(directory), *(path for path in sys.path if path), str(Path.cwd())]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=300)


if __name__ == "__main__":
    where = Path(sys.argv[2])
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    done = run(Path(sys.argv[1]), where)
    print(done.stdout + done.stderr)
    sys.exit(done.returncode)
