"""Requests under gunicorn: those that submit a run, beside the same view with huey, and those that wait for one."""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Bench, Section, percentile
from benchmarks.flask_apps import STEPS
from benchmarks.machine import syncs_per_second

CLIENTS = 12
GUNICORN = ("--workers", "2", "--worker-class", "gthread", "--threads", "16", "--keep-alive", "60")
PATIENCE_SECONDS = 60.0
ROOT = Path(__file__).resolve().parents[1]


def measure(bench: Bench) -> list[Section]:
    section = Section(
        "Flask",
        f"A view that submits and answers 202, under gunicorn ({' '.join(GUNICORN)}), {CLIENTS} clients on this machine"
        " that keep their connections, fsync per commit; no worker runs meanwhile. huey: the same view with"
        f" SqliteHuey(fsync=True). Then a view that submits a run of {STEPS} steps and waits for its result, with one"
        " worker process of 16 threads.",
    )
    missing = [name for name in ("gunicorn", "huey") if importlib.util.find_spec(name) is None]
    if missing:
        section.how += f" Not measured: {' and '.join(missing)} not installed."
        return [section]
    ours: list[float] = []
    theirs: list[float] = []
    syncs: list[float] = []
    halves: list[float] = []
    tails: list[float] = []
    for _ in range(bench.scale.rounds):
        syncs.append(syncs_per_second(bench.place))
        ours.append(_submits(bench, "with_taquba"))
        theirs.append(_submits(bench, "with_huey"))
        waits = _waits(bench)
        halves.append(percentile(waits, 0.5) * 1e3)
        tails.append(percentile(waits, 0.99) * 1e3)
    # Round by round: what else the machine does is then much the same for both.
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    other = statistics.median(theirs)
    bare = statistics.median(syncs)
    section.add("flask.submit", "requests that submit", ours, "requests/s", ratio, "huey")
    section.add("flask.huey", "requests that enqueue, huey", theirs, "requests/s", other / bare, "bare fdatasync")
    section.add("flask.wait.p50", f"requests that wait for {STEPS} steps, {CLIENTS} clients, median", halves, "ms")
    section.add("flask.wait.p99", "the same, 99th percentile", tails, "ms")
    return [section]


def _submits(bench: Bench, app: str) -> float:
    """Return requests per second."""
    with tempfile.TemporaryDirectory(prefix="flask-", dir=bench.place) as place, _gunicorn(app, place) as port:
        _ask(port, "/submit", 0.5)  # imports, the first open
        began = time.perf_counter()
        taken = _ask(port, "/submit", bench.scale.seconds)
        return len(taken) / (time.perf_counter() - began)


def _waits(bench: Bench) -> list[float]:
    """Return what each request took, in seconds."""
    with (
        tempfile.TemporaryDirectory(prefix="flask-", dir=bench.place) as place,
        _gunicorn("with_taquba", place) as port,
    ):
        arguments = ["flask", "--app", "benchmarks.flask_apps:with_taquba", "taquba", "worker", "--threads", "16"]
        worker = subprocess.Popen([sys.executable, "-m", *arguments], **_where(place), stderr=subprocess.DEVNULL)
        try:
            _ask(port, "/wait", 0.5)
            return _ask(port, "/wait", bench.scale.seconds)
        finally:
            _end(worker)


def _ask(port: int, path: str, seconds: float) -> list[float]:
    """Have all clients ask for so long; return what each request took."""
    taken: list[float] = []
    errors: list[BaseException] = []
    deadline = time.perf_counter() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        try:
            while time.perf_counter() < deadline:
                began = time.perf_counter()
                connection.request("POST", f"{path}/{number}")
                answer = connection.getresponse()
                body = answer.read()
                if answer.status not in (200, 202):
                    raise RuntimeError(f"{path} answered {answer.status}: {body[:200]!r}")
                taken.append(time.perf_counter() - began)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return taken


@contextmanager
def _gunicorn(app: str, place: str) -> Iterator[int]:
    """Serve an application, and yield the port."""
    arguments = ["gunicorn", "--bind", "127.0.0.1:0", *GUNICORN, f"benchmarks.flask_apps:{app}()"]
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], **_where(place), stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r"Listening at: http://127.0.0.1:(\d+)", line):
                break
        else:
            raise RuntimeError(f"gunicorn ended: {said[-500:]}")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield int(found[1])
    finally:
        _end(process)


def _where(place: str) -> dict[str, object]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": path, "BENCH_PLACE": str(Path(place, "store").resolve())}}


def _end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
