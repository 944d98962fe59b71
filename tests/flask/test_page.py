"""The walk that docs/tutorial/flask.md leads through, as it stands there: a run is cut by a kill and goes on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT, blocks
from tests.flask.servers import end
from tests.support import PATIENCE, wait_until

pytestmark = pytest.mark.embedded


class Terminal:
    """A command of the page, and what it prints."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.printed or self.process.poll() is not None, f"{text!r}")
        assert text in self.printed, self.printed

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        end(self.process)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


def ask(url: str, method: str = "GET") -> tuple[int, Any, Any]:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=PATIENCE) as answer:
        return answer.status, answer.headers, json.load(answer)


@pytest.mark.timeout(180)
def test_the_walk_of_the_page(tmp_path: Path) -> None:
    [program] = [block.text for block in blocks("docs/tutorial/flask.md") if block.file == "app.py"]
    (tmp_path / "app.py").write_text(program)
    shell = "\n".join(block.text for block in blocks("docs/tutorial/flask.md") if block.language == "sh")
    for command in ("flask run\n", "flask taquba worker\n", "curl -i -X POST http://127.0.0.1:5000/orders/7\n"):
        assert command in shell, "the page leads another way than this test"
    web = Terminal(tmp_path, "flask", "run", "--port", "0")
    workers: list[Terminal] = []
    try:
        web.wait_for("Running on http://127.0.0.1:")
        found = re.search(r"Running on (http://127.0.0.1:\d+)", web.printed)
        assert found
        base = found[1]
        workers.append(Terminal(tmp_path, "flask", "taquba", "worker"))
        status, headers, _ = ask(f"{base}/orders/8", "POST")
        assert (status, headers["Location"], headers["Retry-After"]) == (202, "/runs/order-8", "1")
        wait_until(lambda: (ask(f"{base}/runs/order-8")[2]["progress"] or {}).get("note") == "packing", "the progress")
        workers[0].kill()
        assert "charging order 8" in workers[0].printed
        assert ask(f"{base}/runs/order-8")[2]["state"] in ("pending", "running")
        workers.append(Terminal(tmp_path, "flask", "taquba", "worker"))
        wait_until(lambda: ask(f"{base}/runs/order-8")[2]["state"] == "succeeded", "the end", limit=60)
        assert ask(f"{base}/runs/order-8")[2]["result"] == "receipt-8: 5 parcels"
        assert "packed parcel 1\n" in workers[1].printed and "charging" not in workers[1].printed
        assert ask(f"{base}/orders/8", "POST")[0] == 202
        assert ask(f"{base}/runs/order-8")[2]["state"] == "succeeded"
    finally:
        for each in (web, *workers):
            each.close()
