"""Processes of the marking application: gunicorn with its workers, and a worker of runs; and how to ask them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import PATIENCE, wait_until

APP = "tests.flask.marking_app:create_app()"
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Site:
    """Where the processes of one test work."""

    directory: Path

    @property
    def store(self) -> Path:
        return self.directory / "store"

    @property
    def marks(self) -> Path:
        return self.directory / "marks"

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return {
            **os.environ,
            "PYTHONPATH": path,
            "FLASK_TAQUBA_STORE": str(self.store),
            "FLASK_MARKS": str(self.marks),
        }

    def start(self, *arguments: str, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=ROOT, env=self.environment(), text=True, **options  # type: ignore[call-overload]  # passed on
        )  # fmt: skip


@dataclass
class Web:
    """A gunicorn that listens."""

    process: subprocess.Popen[str]
    port: int
    log: list[str] = field(default_factory=list)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(each) for each in children.read_text().split()]

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, timeout: float = PATIENCE
    ) -> tuple[int, str]:
        """Return the status and the body of an answer.

        Raises:
            OSError, HTTPException: there was none.
        """
        with self.answer(method, path, headers, timeout) as answer:
            return answer.status, answer.read().decode()

    @contextmanager
    def answer(
        self, method: str, path: str, headers: dict[str, str] | None = None, timeout: float = PATIENCE
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, headers=headers or {})
            # Both are closed: gunicorn waits for two seconds for a client that has read all and holds on.
            with connection.getresponse() as answer:
                yield answer
        finally:
            connection.close()

    def watch(self, path: str, is_seen: threading.Event) -> dict[str, object]:
        """Watch a run as a browser's EventSource does, until it has ended; return its last status."""
        last_id = ""
        pause = threading.Event()
        for _ in range(200):
            with self.answer("GET", path, {"Last-Event-ID": last_id} if last_id else {}) as answer:
                assert answer.status == 200, answer.read()
                for raw in answer:
                    line = raw.decode().rstrip()
                    if line.startswith("id: "):
                        last_id = line[4:]
                    if line.startswith("data: "):
                        is_seen.set()
                        status: dict[str, object] = json.loads(line[6:])
                        if status["state"] in ("succeeded", "failed", "cancelled"):
                            return status
            pause.wait(0.1)
        raise AssertionError("the run was watched 200 times and has not ended")


@contextmanager
def gunicorn(site: Site, *options: str) -> Iterator[Web]:
    process = site.start("gunicorn", "--bind", "127.0.0.1:0", *options, APP, stderr=subprocess.PIPE)
    web = Web(process, 0)
    reader = threading.Thread(target=_read, args=(web,), daemon=True)
    reader.start()
    try:
        wait_until(lambda: web.port or process.poll() is not None, "gunicorn")
        assert web.port, "".join(web.log)
        yield web
    finally:
        end(process)
        reader.join(PATIENCE)


def _read(web: Web) -> None:
    assert web.process.stderr is not None
    for line in web.process.stderr:
        web.log.append(line)
        found = re.search(r"Listening at: http://127.0.0.1:(\d+)", line)
        if found:
            web.port = int(found[1])


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)
    if process.stderr is not None:
        process.stderr.close()


class Workers:
    """A worker of runs, and those that came after it was killed."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.killed: set[int] = set()
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return self._site.start("flask", "--app", APP, "taquba", "worker", "--threads", "4")

    def kill(self) -> None:
        """Kill the worker, and begin another."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self.killed.add(self.process.pid)
        self.process = self._start()


@contextmanager
def working(site: Site) -> Iterator[Workers]:
    workers = Workers(site)
    try:
        yield workers
    finally:
        end(workers.process)
