"""Under gunicorn, while its workers and those of runs are killed: nothing is lost, nothing but a cut step repeated."""

from __future__ import annotations

import http.client
import os
import signal
import threading
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, RunState, WorkflowClient
from tests.flask.marking_app import STEPS
from tests.flask.servers import Site, Web, Workers, gunicorn, working
from tests.support import in_thread, wait_until

pytest.importorskip("gunicorn")
pytestmark = pytest.mark.embedded

SYNC = ("--workers", "4")
THREADS = ("--workers", "4", "--worker-class", "gthread", "--threads", "4")
KINDS = {
    "sync": SYNC,
    "sync, preloaded": (*SYNC, "--preload"),
    "threads": THREADS,
    "threads, preloaded": (*THREADS, "--preload"),
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sync, preloaded", "threads"])
def test_nothing_acknowledged_is_lost_by_kills(site: Site, kind: str) -> None:
    _soak(site, KINDS[kind], clients=3, each=10, kills=2)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_acknowledged_is_lost_by_many_kills(site: Site, kind: str) -> None:
    _soak(site, KINDS[kind], clients=8, each=75, kills=10)


def _soak(site: Site, options: Iterable[str], *, clients: int, each: int, kills: int) -> None:
    with gunicorn(site, *options) as web, working(site) as workers:
        wait_until(lambda: len(web.workers()) == 4, "four web workers")
        sent = [in_thread(lambda n=n: _submit(web, f"c{n}", each)) for n in range(clients)]
        for number in range(1, kills + 1):
            # Spread over the work, by what has been done of it, so that each kill cuts something.
            goal = number * clients * each * STEPS // (kills + 2)
            wait_until(lambda goal=goal: _marks(site) >= goal, "further steps", limit=120)
            victims = web.workers()
            if victims:
                os.kill(victims[number % len(victims)], signal.SIGKILL)
            workers.kill()
        acknowledged = [run_id for join in sent for run_id in join()]
        assert len(acknowledged) == clients * each
        with Queue.open(site.store) as queue:
            client = WorkflowClient(queue, queue_name="marking")
            for run_id in acknowledged:
                assert client.wait(run_id, timeout=120).result == b"%d" % STEPS
                status = client.status(run_id)
                assert status is not None and status.state is RunState.SUCCEEDED
            assert queue.check().ok
    _check_marks(site, workers, set(acknowledged))


def _submit(web: Web, prefix: str, many: int) -> list[str]:
    """Submit runs one after the other, each again until it was acknowledged, as a client has to."""
    acknowledged = []
    for number in range(many):
        run_id = f"{prefix}-{number}"
        for _ in range(200):
            try:
                status, _body = web.ask("POST", f"/mark/{run_id}")
            except (OSError, http.client.HTTPException):
                continue  # its web worker was killed; whether the run is there is unknown
            assert status == 202, _body
            acknowledged.append(run_id)
            break
    return acknowledged


def _marks(site: Site) -> int:
    return site.marks.read_bytes().count(b"\n") if site.marks.exists() else 0


def _check_marks(site: Site, workers: Workers, runs: set[str]) -> None:
    """A step that began twice was cut the first time: its worker was killed, and no later step had begun."""
    began: dict[str, list[tuple[int, int]]] = {}
    for line in site.marks.read_text().splitlines():
        run_id, step, pid = line.split()
        began.setdefault(run_id, []).append((int(step), int(pid)))
    assert began.keys() == runs
    for run_id, marks in began.items():
        steps = [step for step, _ in marks]
        assert sorted(set(steps)) == list(range(STEPS)), run_id
        assert steps == sorted(steps), f"{run_id}: a step ran again after the next one had begun: {marks}"
        for (step, pid), (following, _) in pairwise(marks):
            if step == following:
                assert pid in workers.killed, f"{run_id}: step {step} ran twice, and nobody had cut it"


def _release(site: Site, run_id: str) -> None:
    with Queue.open(site.store) as queue:
        WorkflowClient(queue, queue_name="held").signal(run_id, "release", b"null")


@pytest.mark.timeout(300)
def test_two_viewers_do_not_freeze_two_sync_workers(site: Site) -> None:
    with gunicorn(site, "--workers", "2") as web, working(site):
        assert web.ask("POST", "/hold/a")[0] == 202
        seen = [threading.Event(), threading.Event()]
        watching = [in_thread(lambda each=each: web.watch("/runs/a/events", each)) for each in seen]
        assert all(each.wait(30) for each in seen)
        # Both watch on until the run ends, and it does only after all of these were answered.
        assert [web.ask("GET", "/pid")[0] for _ in range(20)] == [200] * 20
        _release(site, "a")
        assert [join()["result"] for join in watching] == ["a", "a"]


@pytest.mark.timeout(300)
def test_streams_of_threads_are_as_many_as_they_may_be(site: Site) -> None:
    options = ("--workers", "1", "--worker-class", "gthread", "--threads", "4")
    with gunicorn(site, *options) as web, working(site):
        assert web.ask("POST", "/hold/a")[0] == 202
        with web.answer("GET", "/runs/a/events") as one, web.answer("GET", "/runs/a/events") as two:
            assert one.status == two.status == 200
            assert web.ask("GET", "/runs/a/events")[0] == 503
            assert web.ask("GET", "/runs/a")[0] == 200
            _release(site, "a")
            for each in (one, two):
                assert b'"succeeded"' in each.read()
        assert web.ask("GET", "/runs/a/events")[0] == 200
