"""The tutorial on Django, followed to the letter: its files, its commands, its kill; then the tests of its page."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.django.support import ROOT
from tests.django.test_killed import free_port
from tests.docs.pages import blocks, read
from tests.support import wait_until

pytest.importorskip("django")

PAGE = "docs/tutorial/django.md"
#: Where the page tells to put its files.
PLACES = {"settings.py": "mysite", "models.py": "shop", "workflows.py": "shop", "views.py": "shop", "urls.py": "mysite",
          "tests.py": "shop"}  # fmt: skip
PATIENCE = 60.0
#: What stands in the command line of the process that works.
WORKS = "contrib.django.worker"


def _environment() -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "DJANGO_SUPERUSER_PASSWORD": "secret"}  # fmt: skip


def _manage(project: Path, command: str) -> str:
    arguments = [sys.executable, "manage.py", *command.split()]
    done = subprocess.run(arguments, cwd=project, env=_environment(), capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _start(project: Path, command: str) -> subprocess.Popen[bytes]:
    # A session of its own, so that the worker's own process is killed with what watches over it.
    return subprocess.Popen(
        [sys.executable, "manage.py", *command.split()],
        cwd=project,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _kill_all(worker: subprocess.Popen[bytes]) -> None:
    """Kill what the ``pkill`` of the page would of this project: the one that watches, then the one that works."""
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def _get(url: str, data: Mapping[str, str] | None = None) -> dict[str, str]:
    body = None if data is None else urllib.parse.urlencode(data).encode()
    with urllib.request.urlopen(url, body, timeout=30) as answer:
        return dict(json.load(answer))


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_the_page_leads_to_a_run_that_survives_a_kill(tmp_path: Path) -> None:
    project = tmp_path / "site"
    project.mkdir()
    commands = re.findall(r"^\$ python manage.py (.*)$", "".join(block.text for block in blocks(PAGE)), re.MULTILINE)
    assert commands == [
        "makemigrations shop", "migrate", "createsuperuser", "runserver", "taquba_worker", "taquba_worker --until-idle",
        "taquba_runs show order-1",
    ]  # fmt: skip
    assert f"pkill -KILL -f 'manage.py taquba_worker|{WORKS}'" in read(PAGE)
    for command in ("django-admin startproject mysite .", "python manage.py startapp shop"):
        assert command in read(PAGE)
    start = [sys.executable, "-m", "django", "startproject", "mysite", "."]
    subprocess.run(start, cwd=project, env={**_environment(), "DJANGO_SETTINGS_MODULE": ""}, check=True)
    _manage(project, "startapp shop")
    for block in (*blocks(PAGE), *blocks("docs/django.md")):
        if block.language == "python":
            assert block.file is not None
            path = project / PLACES[block.file] / block.file
            path.write_text((path.read_text() if block.file == "settings.py" else "") + block.text)
    for command in commands[:2]:
        _manage(project, command)
    _manage(project, "createsuperuser --noinput --username root --email root@example.com")
    assert "no issues" in _manage(project, "check")
    _manage(project, "test")
    port = free_port()
    base = f"http://127.0.0.1:{port}/orders/"
    server = _start(project, f"runserver {port} --noreload")
    worker = _start(project, "taquba_worker")
    try:
        wait_until(lambda: _is_there(f"{base}none/"), "the server", PATIENCE)
        assert _get(base, {"email": "you@example.com"}) == {"run": "order-1"}
        wait_until(lambda: _get(f"{base}order-1/") == {"state": "running", "step": "pack"}, "the step", PATIENCE)
        _kill_all(worker)
        _kill_orphans(project)
        _manage(project, "taquba_worker --until-idle")
        assert _get(f"{base}order-1/") == {"state": "succeeded", "step": "ship"}
        shown = _manage(project, "taquba_runs show order-1")
        assert shown.count("step 0 attempt 1 started") == 1 and "step 0 attempt 2" not in shown
        assert "step 1 attempt 2 started" in shown
        assert "step 2 attempt 1 started" in shown and "step 2 attempt 2" not in shown
    finally:
        for process in (server, worker):
            if process.poll() is None:
                process.kill()
                process.wait()


def _kill_orphans(project: Path) -> None:
    """Kill the process that works, which is in a session of its own; it would end its step and then stop."""
    for found in Path("/proc").glob("[0-9]*"):
        try:
            command = (found / "cmdline").read_bytes()
            here = (found / "cwd").readlink() == project
        except OSError:
            continue
        if here and WORKS.encode() in command:
            os.kill(int(found.name), signal.SIGKILL)


def _is_there(url: str) -> bool:
    try:
        return _get(url) == {"state": "unknown"}
    except OSError:
        return False
