"""The console: how long its pages take over a store of a million runs, and what looking costs who works."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from benchmarks.children import child
from benchmarks.claims import rewrite
from benchmarks.figures import Bench, Section
from benchmarks.machine import ROOT
from benchmarks.steps import PAYLOAD
from taquba_workflow_sync import Continue, Queue, RunSpec, RunState, Step, StepOutcome, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.console import ACT
from taquba_workflow_sync.console.app import Console
from taquba_workflow_sync.console.messages import Csrf, Fields, Request
from taquba_workflow_sync.storage.relational.sql.names import JOB, QUEUE

SUBMIT_BATCH = 10_000
DEAD_IN = 100
THREADS = 4
#: What is looked at while others work, a stream each.
WATCHED = ("", "runs", "runs?state=failed", "dead", "workers", "queue?queue=workflow-steps")
SETTLE_SECONDS = 1.5

#: Of what waits most has ended well, a day ago and kept for a month; one in a hundred is a dead letter.
FINISH = (
    f"""UPDATE {JOB} SET status = 'done', verdict = 'succeeded', termination = 1, attempts = 1, ordinal = 1,
    due_ms = NULL, finished_ms = :now - 86400000, expires_ms = :now + 30 * 86400000, keep_done_ms = 31 * 86400000
    WHERE status = 'pending' AND seq % 10 != 0""",
    f"""UPDATE {JOB} SET status = 'dead', verdict = 'failed', termination = 1, attempts = 3, ordinal = 3,
    due_ms = NULL, finished_ms = :now - 86400000, expires_ms = :now + 30 * 86400000,
    last_error = 'ConnectionRefusedError: [Errno 111] Connection refused'
    WHERE status = 'pending' AND seq % {DEAD_IN} = 0""",
    f"""UPDATE {QUEUE} SET (pending, done, dead) = (SELECT sum(status = 'pending'), sum(status = 'done'),
    sum(status = 'dead') FROM {JOB})""",
)


def measure(bench: Bench) -> list[Section]:
    size = bench.scale.waiting[-1]
    times = max(5, bench.scale.samples // 10)
    pages = Section(
        "The console",
        f"Pages over a store of {size:,} runs, of which nine in ten have succeeded and one in {DEAD_IN} is a dead"
        f" letter: what the console takes to answer, without the server before it, {times} times each.",
    )
    with tempfile.TemporaryDirectory(prefix="console-", dir=bench.place) as place:
        store = Path(place) / "store"
        _fill(store, size)
        rewrite(store, FINISH)
        worst = 0.0
        for what, took, worked in _pages(store, times):
            cpu = f"{statistics.median(worked):.1f} ms of CPU time"
            pages.add(f"console.page.{what}", f"`/{what}`", took, "ms", None, cpu)
            worst = max(worst, statistics.median(took))
        pages.add("console.pages", "the slowest of them", [worst], "ms")
    return [pages, _watched(bench)]


def _fill(store: Path, runs: int) -> None:
    with Queue.open(store, durability="relaxed") as queue:
        client = WorkflowClient(queue)
        for start in range(0, runs, SUBMIT_BATCH):
            numbers = range(start, min(start + SUBMIT_BATCH, runs))
            client.submit_many(
                RunSpec(run_id=f"run-{n}", input=PAYLOAD, headers={"customer": f"c{n % 1000}"}) for n in numbers
            )


def _pages(store: Path, times: int) -> Iterator[tuple[str, list[float], list[float]]]:
    """Yield of each page how many milliseconds it took, and how many of them this process worked."""
    with Queue.open(store) as queue:
        client = WorkflowClient(queue)
        dead = client.list_runs(RunState.FAILED, limit=1).runs[0].run_id
        middle = client.list_runs(newest_first=True, limit=1000).next_cursor or ""
        console = Console()
        for page in (
            "", "queue", "runs", "runs?order=oldest", f"runs?cursor={middle}", "runs?state=succeeded",
            "runs?state=failed", "runs?state=cancelled", "runs?prefix=run-5", "runs?prefix=none",
            "runs?header=customer%3Dc7",
            "runs?header=customer%3Dnobody", "runs?failed_with=refused", "runs?failed_with=nothing", "runs?since=1h",
            f"run?id={dead}", "dead", "schedules", "limits", "workers",
        ):  # fmt: skip
            took, worked = [], []
            for _ in range(times):
                began, began_work = time.perf_counter(), time.thread_time()
                response = console.answer(_request(queue, page))
                took.append((time.perf_counter() - began) * 1000)
                worked.append((time.thread_time() - began_work) * 1000)
                if response.status != 200:
                    raise RuntimeError(f"/{page} was answered by {response.status}")
            yield page.replace(middle, "...") if middle else page, took, worked


def _request(queue: Queue, page: str) -> Request:
    path, _, query = page.partition("?")
    fields = Fields(parse_qs(query))
    return Request("GET", path, fields, Fields({}), "", {"default": queue}, ACT, Csrf("csrf_token", ""))


def _watched(bench: Bench) -> Section:
    rounds = max(3, bench.scale.rounds * 2)
    section = Section(
        "The console left open",
        f"Steps a second of a worker process of {THREADS} threads, whose runs do nothing and fsync each commit, while a"
        f" console beside it is open in {len(WATCHED)} tabs, and while it is not: {rounds} times"
        f" {bench.scale.seconds:.0f} s of either, in turns. On a machine that does other things, too, the CPU time says"
        f" more than the rate.",
    )
    with tempfile.TemporaryDirectory(prefix="watched-", dir=bench.place) as place:
        store = Path(place) / "store"
        with child(_work, store) as worker:
            worker.hear()
            alone: list[tuple[float, float]] = []
            beside: list[tuple[float, float]] = []
            with _console(store) as url:
                for number in range(2 * rounds + 1):
                    with ExitStack() as stack:
                        # Which of them is first must not matter.
                        is_watched = number % 2 == 1
                        if is_watched:
                            stack.enter_context(_viewers(url))
                        time.sleep(SETTLE_SECONDS)
                        worker.tell(bench.scale.seconds)
                        (beside if is_watched else alone).append(worker.hear())
            worker.tell(None)
    for number, (key, what, unit) in enumerate(
        (("rate", "steps", "steps/s"), ("cpu", "CPU time of a step", "microseconds"))
    ):
        plain, watched = [each[number] for each in alone], [each[number] for each in beside]
        ratio = statistics.median(
            value / statistics.mean(around) for value, around in zip(watched, pairwise(plain), strict=True)
        )
        section.add(f"console.{key}.alone", f"{what} with no console open", plain, unit)
        against = f"no console open, {statistics.median(plain):,.0f}"
        section.add(f"console.{key}", f"{what} with {len(WATCHED)} tabs open", watched, unit, ratio, against)
    return section


def _work(pipe: Connection, store: Path) -> None:
    """Run steps for ever; say how many a second, and what each costs this process in microseconds, whenever asked."""
    done = 0

    def run_step(_: Step) -> StepOutcome:
        nonlocal done
        done += 1
        return Continue(PAYLOAD)

    with Queue.open(store) as queue, WorkflowRuntime(queue, run_step, max_concurrent_steps=THREADS) as runtime:
        runtime.submit_many([RunSpec(run_id=f"r{number}") for number in range(1_000)])
        pipe.send("ready")
        while (seconds := pipe.recv()) is not None:
            before, began, worked = done, time.perf_counter(), time.process_time()
            time.sleep(seconds)
            steps = max(done - before, 1)
            pipe.send((steps / (time.perf_counter() - began), (time.process_time() - worked) / steps * 1e6))
        queue.close()


@contextmanager
def _console(store: Path) -> Iterator[str]:
    """A console as people start it; yields its address."""
    command = [sys.executable, "-m", "taquba_workflow_sync", "console", "--port", "0", "--store", str(store), "--json"]
    process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def _viewers(url: str) -> Iterator[None]:
    """Tabs that follow a page each, as the script does."""
    where = urlsplit(url)
    is_over = threading.Event()
    base, cookie = _opened(where.port or 0, f"/?{where.query}")
    threads = [
        threading.Thread(target=_follow, args=(where.port, f"{base}events?page={quote(page)}", cookie, is_over))
        for page in WATCHED
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def _opened(port: int, path: str) -> tuple[str, str]:
    """Return where the address leads, and the cookie that it gives."""
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.headers["Location"] or "", (answer.headers["Set-Cookie"] or "").partition(";")[0]


def _follow(port: int, path: str, cookie: str, is_over: threading.Event) -> None:
    while not is_over.is_set():
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", path, headers={"Cookie": cookie})
        answer = connection.getresponse()
        while not is_over.is_set() and answer.readline():
            pass
        connection.close()
