"""The console as it is served: by itself, in the shop of Django under gunicorn, in the application of Flask."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from taquba_workflow_sync import Queue
from taquba_workflow_sync.console.standalone import Server, Standalone, names_of
from tests.cli.processes import started
from tests.console.browsing import Browser
from tests.django.support import ROOT, SHOP, environment, manage
from tests.support import PATIENCE, wait_until

ETL = ROOT / "examples" / "flask_etl"
PASSWORD = "open-sesame"


@dataclass
class Site:
    """A console that is served: the store that it is about, its address, and how a browser is let in."""

    store: Path
    base: str
    way_in: str
    is_django: bool = False

    def enter(self, browser: Browser) -> None:
        """Open the console as somebody who may do everything."""
        browser.open(self.way_in)
        if self.is_django:
            browser.find("[name=username]").send_keys("root")
            browser.find("[name=password]").send_keys(PASSWORD)
            browser.find("[type=submit]").click()
        browser.sees_text("Queues", "h1")
        if "token=" in self.way_in:  # the path is a secret, too, which the console tells by leading there
            self.base = browser.driver.current_url.rstrip("/")
        browser.logged(), browser.asked()  # of pages that are not ours


@contextmanager
def standalone(directory: Path, *options: str) -> Iterator[Site]:
    """Serve by ``taquba-workflow console``, a process of its own."""
    store = directory / "store"
    with started(store, "console", "--port", "0", *options, PYTHONUNBUFFERED="1") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "?token=" in line, process.stderr.read() if process.stderr else line
        yield Site(store, line.partition("/?")[0], line.strip())


@contextmanager
def in_this_process(queue: Queue, store: Path) -> Iterator[Site]:
    """Serve by a thread: for a store whose clock is set by hand."""
    server = Server("127.0.0.1", 0)
    server.set_app(Standalone(queue, "token", hosts=names_of("127.0.0.1", server.server_port)))
    thread = threading.Thread(target=server.serve_forever, name="console")
    thread.start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        yield Site(store, base, f"{base}/?token=token")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def in_django(directory: Path) -> Iterator[Site]:
    """Serve by the shop of the examples."""
    manage(directory, "migrate", "-v0")
    manage(directory, "createsuperuser", "--noinput", "--username", "root", "--email", "r@example.org",
           DJANGO_SUPERUSER_PASSWORD=PASSWORD)  # fmt: skip
    with _gunicorn("project.wsgi", SHOP, environment(directory), directory / "log") as port:
        base = f"http://127.0.0.1:{port}/console"
        yield Site(directory / "taquba", base, f"{base}/", is_django=True)


@contextmanager
def in_flask(directory: Path) -> Iterator[Site]:
    """Serve by the application of the examples, in a copy: it keeps its files beside itself."""
    shutil.copytree(ETL, directory / "etl", ignore=shutil.ignore_patterns("instance", "__pycache__"))
    store = directory / "store"
    variables = {"FLASK_TAQUBA_STORE": str(store), "FLASK_CONSOLE_PASSWORD": PASSWORD, "PYTHONPATH": str(ROOT)}
    with _gunicorn("app:create_app()", directory / "etl", {**os.environ, **variables}, directory / "log") as port:
        yield Site(store, f"http://127.0.0.1:{port}/console", f"http://any:{PASSWORD}@127.0.0.1:{port}/console/")


@contextmanager
def _gunicorn(app: str, cwd: Path, variables: dict[str, str], log: Path) -> Iterator[int]:
    with log.open("wb") as file:
        command = ["gunicorn", app, "-k", "gthread", "--threads", "16", "-b", "127.0.0.1:0", "--graceful-timeout", "1"]
        process = subprocess.Popen([sys.executable, "-m", *command], cwd=cwd, env=variables, stdout=file, stderr=file)
    try:
        found: list[str] = []

        def listens() -> bool:
            found[:] = re.findall(r"Listening at: http://127.0.0.1:(\d+)", log.read_text())
            return bool(found) or process.poll() is not None

        wait_until(listens, "gunicorn", 60)
        assert found, log.read_text()
        yield int(found[0])
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)
