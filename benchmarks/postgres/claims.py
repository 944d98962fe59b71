"""What a turn costs beside many waiting and many finished jobs of the same store."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from benchmarks.claims import BATCH, medians_of_thirds, turns
from benchmarks.figures import Bench, Section
from benchmarks.postgres.server import database
from benchmarks.steps import submit_runs
from taquba_workflow_sync import Queue, WorkflowClient
from taquba_workflow_sync.storage.relational.sql.names import JOB, META, QUEUE
from tests.postgres import Server

SMALL = 1_000
SWEPT = 20_000
FINISHED = 10_000_000
QUICK_FINISHED = 100_000
_CHUNK = 500_000
_DAY_MS = 86_400_000

# Copies of a submitted run, behind it in line, with ids and names that nobody has.
_COPY = """INSERT INTO {job} ({columns}, {changed}) SELECT {columns}, {values} FROM {job} AS j,
    generate_series(CAST(%(first)s AS BIGINT), CAST(%(last)s AS BIGINT)) AS n WHERE j.seq = 1"""
_OF_WAITING = {"seq": "n", "id": "'copy' || n", "run_id": "'copy' || n", "place": "n"}
_OF_FINISHED = _OF_WAITING | {
    "status": "'done'",
    "verdict": "'succeeded'",
    "termination": "1",
    "attempts": "1",
    "ordinal": "1",
    "finished_ms": "enqueued_ms",
    # It is kept for longer than this takes, so that no sweep is measured with it.
    "expires_ms": f"enqueued_ms + {30 * _DAY_MS}",
}


def measure(bench: Bench, server: Server, say: Callable[[str], None]) -> list[Section]:
    scale = bench.scale
    is_quick = scale.waiting[-1] < 1_000_000
    finished = QUICK_FINISHED if is_quick else FINISHED
    section = Section(
        "Claims beside many jobs",
        f"One turn is one transaction: {BATCH} steps advance and the next {BATCH} are claimed; the median of"
        f" {scale.turns}, also with synchronous_commit off (durability relaxed), which otherwise hides what the turn"
        " itself costs. The runs were put in by SQL, as copies of a submitted one, and the table vacuumed and analysed."
        f" The ratio is to a store of {SMALL:,} waiting in the same database, turn by turn beside it.",
    )
    with database(server, "claims") as url:
        small, large = (f"{url}?schema={name}" for name in ("small", "large"))
        for each in (small, large):
            with Queue.open(each) as queue:
                submit_runs(WorkflowClient(queue), SMALL)
        waiting = SMALL
        for size in scale.waiting:
            _copy(url, size - waiting, _OF_WAITING, "pending")
            waiting = size
            say(f"{size:,} wait")
            _add(section, bench, (small, large), f"{size:,} waiting", str(size))
        _copy(url, finished, _OF_FINISHED, "done")
        say(f"{finished:,} have finished")
        _add(section, bench, (small, large), f"{waiting:,} waiting and {finished:,} finished", "finished")
        section.add("pg.sweep", f"finished runs swept, {SWEPT:,} past their retention", [_sweep(url, large)], "runs/s")
        with psycopg.connect(url) as connection:
            row = connection.execute(f"SELECT pg_total_relation_size('large.{JOB}') / 1048576.0".encode()).fetchone()
        assert row is not None
        section.add("pg.table", f"the table of {waiting + finished:,} jobs with its indexes", [float(row[0])], "MiB")
    return [section]


def _copy(url: str, many: int, changed: dict[str, str], counter: str) -> None:
    """Put copies of the first run of the large store into it, and have its counters say so."""
    if many <= 0:
        return
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        connection.execute("SET search_path = large")
        connection.execute("SET synchronous_commit = off")
        row = connection.execute(f"SELECT value FROM {META} WHERE key = 'next_seq'".encode()).fetchone()
        assert row is not None
        first = row["value"]
        names = [
            each["attname"]
            for each in connection.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
                (f"large.{JOB}",),
            )
        ]
        statement = sql.SQL(_COPY).format(
            job=sql.Identifier(JOB),
            columns=sql.SQL(", ").join(sql.Identifier(name) for name in names if name not in changed),
            changed=sql.SQL(", ").join(map(sql.Identifier, changed)),
            values=sql.SQL(", ").join(map(sql.SQL, changed.values())),  # type: ignore[arg-type]  # constants above
        )
        for start in range(first, first + many, _CHUNK):
            connection.execute(statement, {"first": start, "last": min(start + _CHUNK, first + many) - 1})
        connection.execute(f"UPDATE {META} SET value = %s WHERE key = 'next_seq'".encode(), (first + many,))
        connection.execute(f"UPDATE {QUEUE} SET {counter} = {counter} + %s".encode(), (many,))
        connection.execute(f"VACUUM (ANALYZE) {JOB}".encode())
        connection.execute("CHECKPOINT")


def _sweep(url: str, store: str) -> float:
    """Have some finished runs be past their retention; returns how many a second the store deletes."""
    with psycopg.connect(url) as connection:
        connection.execute(
            f"UPDATE large.{JOB} SET expires_ms = 1 WHERE seq IN (SELECT seq FROM large.{JOB}"
            f" WHERE status = 'done' ORDER BY seq LIMIT {SWEPT})".encode()
        )
    with Queue.open(store) as queue:
        swept, began = 0, time.perf_counter()
        while (found := queue.handle.store.sweep()) > 0:
            swept += found
        rate = swept / (time.perf_counter() - began)
    if swept < SWEPT:
        raise RuntimeError(f"{swept} of {SWEPT} were swept")
    return rate


def _add(section: Section, bench: Bench, stores: tuple[str, str], what: str, key: str) -> None:
    for durability, suffix in (("full", ""), ("relaxed", ", without waiting for the disk")):
        small, large = turns(stores, durability, bench.scale.turns)
        ratio = statistics.median(large) / statistics.median(small)
        against = f"the small store, {statistics.median(small):.2f} ms"
        section.add(
            f"pg.turn.{durability}.{key}", f"a turn, {what}{suffix}", medians_of_thirds(large), "ms", ratio, against
        )
