"""The console of a project by itself, as ``manage.py`` starts it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("django")
pytest.importorskip("jinja2")

from taquba_workflow_sync import Queue
from tests.django.support import SHOP, environment, manage
from tests.support import PATIENCE


def test_it_serves_the_store_of_the_project_until_it_is_told_to_end(tmp_path: Path) -> None:
    manage(tmp_path, "taquba_runs", "list", code=4)
    Queue.open(tmp_path / "taquba").close()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "taquba_console", "--port", "0", "--json"],
        cwd=SHOP, env=environment(tmp_path), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = urlsplit(json.loads(process.stdout.readline())["url"])
        connection = HTTPConnection(url.hostname or "", url.port, timeout=PATIENCE)
        connection.request("GET", f"/?{url.query}")
        answer = connection.getresponse()
        assert answer.status == 303
        answer.read()
        connection.request(
            "GET",
            answer.headers["Location"] or "",
            headers={"Cookie": (answer.headers["Set-Cookie"] or "").partition(";")[0]},
        )
        assert str(tmp_path / "taquba").encode() in connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
