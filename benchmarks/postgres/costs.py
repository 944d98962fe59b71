"""What a step costs and where its time goes: CPU on both sides, WAL, syncs, round trips, statement by statement."""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.figures import Bench, Section
from benchmarks.peers.measure import Meter
from benchmarks.postgres.floors import run_floor
from benchmarks.postgres.server import database, server_on
from benchmarks.steps import PAYLOAD, STEPS_PER_RUN, submit_runs
from taquba_workflow_sync import Continue, Queue, Step, StepOutcome, Succeed, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.storage.postgres.dialect import translated
from taquba_workflow_sync.storage.postgres.sessions import Session
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.sql.names import JOB
from taquba_workflow_sync.storage.relational.transitions.bulk import sized
from tests.postgres import Server

WORKERS = (1, 16, 64)
_SETTINGS = {"shared_preload_libraries": "pg_stat_statements", "track_wal_io_timing": "on"}
_STATE = """SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8, wal_sync::float8, wal_sync_time,
    (SELECT sum(xact_commit)::float8 FROM pg_stat_database) FROM pg_stat_wal"""
_HOT = f"SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = '{JOB}'"
_STATEMENTS = """SELECT query, calls, total_exec_time * 1000 FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND calls > 0"""
_SHOWN = 14
_CONSTANT = re.compile(r"\$\d+|'[^']*'|\b\d+\b")


@dataclass
class Waiting:
    """What the store's sessions were asked: round trips, the time of the calls, and the CPU of it."""

    trips: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    depth: int = field(default=0, repr=False)


def measure(bench: Bench) -> list[Section]:
    """Measure on a server of its own, which keeps count of every statement."""
    costs = Section(
        "What a step costs",
        "On a server that also counts its statements, which makes it slower: each figure is of a step, from opening the"
        " store to closing it. CPU of the server is that of all its processes, of the worker that of its whole process."
        " A call is what the session that writes is asked, with the wait for the answer; the CPU in it is the calling"
        " thread's own. Last, the floor by sets beside it.",
    )
    sections = [costs]
    with server_on(bench.place, _SETTINGS) as server:
        for workers in WORKERS:
            sections.append(_of_ours(costs, bench, server, workers))
        for workers in WORKERS:
            _of_floor(costs, bench, server, workers)
    return sections


def _of_ours(costs: Section, bench: Bench, server: Server, workers: int) -> Section:
    what = "1 worker" if workers == 1 else f"{workers} workers"
    with database(server, "costs") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            runs = int(max(100, bench.scale.seconds * 50 * min(workers, 6)))
            meter = Meter(runs * STEPS_PER_RUN)
            waiting = Waiting()

            def run_step(step: Step) -> StepOutcome:
                meter.step()
                return Continue(PAYLOAD) if step.step_number < STEPS_PER_RUN - 1 else Succeed()

            with Queue.open(url) as queue:
                submit_runs(WorkflowClient(queue), runs)
            connection.execute("CHECKPOINT")  # else a page's first change is of another one's time
            connection.execute("SELECT pg_stat_statements_reset()")
            before = _state(connection, server)
            with Queue.open(url) as queue:
                runtime = WorkflowRuntime(queue, run_step, max_concurrent_steps=workers)
                began = time.perf_counter()
                with _timed(waiting), runtime:
                    meter.wait()
                    took = time.perf_counter() - began
                meter.expect(queue.stats(runtime.queue_name).done * STEPS_PER_RUN)
            # Closed by now: sessions tell of their counts at their end.
            after = _state(connection, server)
            statements = connection.execute(_STATEMENTS).fetchall()
            hot = _hot(connection)
    steps = runs * STEPS_PER_RUN
    costs.add(f"pg.cost.all.{workers}", f"{what}: all of it", [took * 1e6 / steps], "µs")
    _add_costs(costs, str(workers), what, steps, before, after)
    costs.add(f"pg.cost.trips.{workers}", f"{what}: calls of the session that writes", [waiting.trips / steps], "")
    costs.add(f"pg.cost.called.{workers}", f"{what}: time in these calls", [waiting.seconds * 1e6 / steps], "µs")
    costs.add(f"pg.cost.calling.{workers}", f"{what}: CPU in these calls", [waiting.cpu * 1e6 / steps], "µs")
    costs.add(f"pg.cost.hot.{workers}", f"{what}: updates of jobs that were HOT", [hot * 100], "%")
    return _statements(what, workers, steps, statements)


def _of_floor(costs: Section, bench: Bench, server: Server, workers: int) -> None:
    with database(server, "costs") as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        before = _state(connection, server)
        run_floor(url, is_set_based=True, batch=workers, seconds=bench.scale.seconds / 2)
        after = _state(connection, server)
        row = connection.execute("SELECT count(*) FROM history").fetchone()
        assert row is not None
        _add_costs(costs, f"floor.{workers}", f"the floor in batches of {workers}", row[0], before, after)


def _add_costs(costs: Section, key: str, what: str, steps: int, before: list[float], after: list[float]) -> None:
    wal, syncs, sync_ms, commits, server_cpu, own_cpu = (now - then for now, then in zip(after, before, strict=True))
    costs.add(f"pg.cost.worker.{key}", f"{what}: CPU of the worker", [own_cpu * 1e6 / steps], "µs")
    costs.add(f"pg.cost.server.{key}", f"{what}: CPU of the server", [server_cpu * 1e6 / steps], "µs")
    costs.add(f"pg.cost.sync.{key}", f"{what}: WAL synced", [sync_ms * 1e3 / steps], "µs")
    costs.add(f"pg.cost.syncs.{key}", f"{what}: syncs of the WAL", [syncs / steps], "")
    costs.add(f"pg.cost.commits.{key}", f"{what}: transactions", [commits / steps], "")
    costs.add(f"pg.cost.wal.{key}", f"{what}: WAL", [wal / steps], "bytes")


def _state(connection: psycopg.Connection[Any], server: Server) -> list[float]:
    time.sleep(1.1)  # until a session that has just ended has told of its counts
    row = connection.execute(_STATE.encode()).fetchone()
    assert row is not None
    times = os.times()
    return [*map(float, row), cpu_of(server), times.user + times.system]


def cpu_of(server: Server) -> float:
    """Return the seconds of CPU of the server's processes, those that have ended included."""
    ticks = 0
    for pid in server.processes():
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(words[11]) + int(words[12])
        if pid == server.process.pid:
            ticks += int(words[13]) + int(words[14])  # its children that it has waited for
    return ticks / os.sysconf("SC_CLK_TCK")


def _hot(connection: psycopg.Connection[Any]) -> float:
    row = connection.execute(_HOT.encode()).fetchone()
    return 0.0 if row is None else row[1] / max(row[0], 1)


@contextmanager
def _timed(waiting: Waiting) -> Iterator[None]:
    """Have every call of a session timed; one inside another is part of it."""
    originals = {name: getattr(Session, name) for name in ("execute", "run", "commit")}

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def wrapped(session: Session, *arguments: Any) -> Any:
            queued = len(session._queued)
            began, cpu = time.perf_counter(), time.thread_time()
            if session.raw.info.parameter_status("application_name") != "taquba writer":
                return call(session, *arguments)
            try:
                return call(session, *arguments)
            finally:
                waiting.seconds += time.perf_counter() - began
                waiting.cpu += time.thread_time() - cpu
                # What was only put off crosses nothing.
                waiting.trips += len(session._queued) <= queued

        return wrapped

    for name, call in originals.items():
        setattr(Session, name, timed(call))
    try:
        yield
    finally:
        for name, call in originals.items():
            setattr(Session, name, call)


def _statements(what: str, workers: int, steps: int, rows: list[tuple[str, int, float]]) -> Section:
    section = Section(
        f"Statement by statement, {what}",
        "As the server counts them: time inside the server, so without the way there and back, without the worker, and"
        " without the commits themselves, which it does not count. In microseconds a step; the ratio is to all.",
    )
    calls: defaultdict[str, int] = defaultdict(int)
    times: defaultdict[str, float] = defaultdict(float)
    names = _names()
    for query, many, took in rows:
        bare = _bare(query)
        name = names.get(bare, bare[:90])
        calls[name] += many
        times[name] += took
    whole = sum(times.values())
    for name in sorted(times, key=lambda name: -times[name])[:_SHOWN]:
        label = f"{name}, {calls[name] / steps:.2f} times"
        section.add(f"pg.sql.{workers}.{name}", label, [times[name] / steps], "µs", times[name] / whole, "all")
    return section


def _names() -> dict[str, str]:
    """Return what statements are called in the package, by how they look without their constants."""
    names = {}
    for name, text in vars(sql).items():
        if not isinstance(text, str):
            continue
        # A statement for many rows has as many values in each as the constant beside it says.
        width = next((vars(sql)[each] for each in _widths(name) if each in vars(sql)), None)
        if "{values}" in text and width is not None:
            text = sized(text, width)[1]
        if "{" not in text:
            names[_bare(translated(text, "public"))] = name
    return names


def _widths(name: str) -> Iterator[str]:
    """Return under which names the number of values of a statement's rows may stand."""
    stem = name.replace("_HISTORY", "").replace("_MANY", "")
    yield from (f"{stem}_VALUES", f"{stem}_MANY_VALUES")


def _bare(statement: str) -> str:
    """Return a statement without its constants and its schema, as two programs that number them differently agree."""
    text = re.sub(r"(?<!IS )(?<!NOT )NULL\b", "?", re.sub(r'"\w+"\.', "", statement))
    text = re.sub(r"\s+", " ", _CONSTANT.sub("?", text)).strip()
    # One row or many: the first says it all.
    return re.sub(r"(VALUES \((?:[^()]|\([^()]*\))*\))(?:, ?\([^()]*\))+", r"\1", text)
