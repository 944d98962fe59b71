"""The floors: how fast bare psycopg makes the row changes of a step's turn, with nothing around them.

As benchmarks/floor.py does it on SQLite: every transaction advances the rows that the one before has claimed, guarded
by their token, adds a history row for each, and claims the next batch from the front of the line. All of it goes to the
server as one pipeline, whose implicit transaction commits at its end: one round trip. One floor has a statement for
each row and change, the other one for each change of a whole batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe

import psycopg

from benchmarks.postgres.window import rate_of

RUNS = 1_000
WARMUP_SECONDS = 0.5
LEASE_MS = 30_000
PAYLOAD = b"payload of a tiny step"

_EAGER = "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0"
SCHEMA = f"""
CREATE TABLE job (
    id BIGINT PRIMARY KEY,
    job_id TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    run_id TEXT,
    status TEXT NOT NULL,
    priority BIGINT NOT NULL,
    place BIGINT NOT NULL,
    step BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    max_attempts BIGINT NOT NULL,
    token TEXT,
    lease_until_ms BIGINT,
    claimed_at_ms BIGINT,
    enqueued_at_ms BIGINT NOT NULL,
    payload BYTEA NOT NULL
) WITH ({_EAGER});
CREATE INDEX job_pending ON job (queue, priority, place) WHERE status = 'pending';
CREATE INDEX job_claimed ON job (lease_until_ms) WHERE lease_until_ms IS NOT NULL;
CREATE UNIQUE INDEX job_run ON job (queue, run_id) WHERE run_id IS NOT NULL;
CREATE TABLE history (
    job BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    step BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    claimed_at_ms BIGINT NOT NULL,
    ended_at_ms BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (job, ordinal)
) WITH ({_EAGER});
CREATE SEQUENCE places START {RUNS};
INSERT INTO job SELECT n, md5(n::text), 'steps', 'run-' || n, 'pending', 1000, n, 0, 0, 3, NULL, NULL, NULL, 0,
    '{PAYLOAD.decode()}'::bytea FROM generate_series(0, {RUNS - 1}) AS n;
ANALYZE job
"""

ADVANCE = """UPDATE job SET status = 'pending', token = NULL, lease_until_ms = NULL, claimed_at_ms = NULL, attempts = 0,
    step = step + 1, payload = %b, place = nextval('places') WHERE id = %b AND token = %b AND status = 'claimed'"""
RECORD = "INSERT INTO history VALUES (%b, %b, %b, 1, %b, %b, 'continue')"
CLAIM = """UPDATE job SET status = 'claimed', token = %b, lease_until_ms = %b, claimed_at_ms = %b,
    attempts = attempts + 1 WHERE id = (SELECT id FROM job WHERE queue = 'steps' AND status = 'pending'
    ORDER BY priority, place LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) RETURNING id, step, token, claimed_at_ms"""

ADVANCE_MANY = """UPDATE job SET status = 'pending', token = NULL, lease_until_ms = NULL, claimed_at_ms = NULL,
    attempts = 0, step = step + 1, payload = %b, place = nextval('places')
    WHERE id = ANY(%b::bigint[]) AND token = ANY(%b::text[]) AND status = 'claimed'"""
RECORD_MANY = """INSERT INTO history SELECT job, step, step, 1, at, %b, 'continue'
    FROM unnest(%b::bigint[], %b::bigint[], %b::bigint[]) AS s (job, step, at)"""
CLAIM_MANY = """UPDATE job SET status = 'claimed', token = %b || '.' || id, lease_until_ms = %b, claimed_at_ms = %b,
    attempts = attempts + 1 WHERE id = ANY(ARRAY(SELECT id FROM job WHERE queue = 'steps' AND status = 'pending'
    ORDER BY priority, place LIMIT %b FOR NO KEY UPDATE SKIP LOCKED)) RETURNING id, step, token, claimed_at_ms"""


def run_floor(url: str, *, is_set_based: bool, batch: int, seconds: float, processes: int = 1) -> float:
    """Measure a floor in an empty database and return steps per second.

    Raises RuntimeError if the rows do not add up to the steps counted.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
    if processes == 1:
        with psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection:
            loop = _Loop(connection, batch, is_set_based=is_set_based)
            loop.run_until(time.perf_counter() + WARMUP_SECONDS)
            before, began = loop.steps, time.perf_counter()
            loop.run_until(began + seconds)
            steps, rate = loop.steps, (loop.steps - before) / (time.perf_counter() - began)
    else:
        answers = rate_of(_in_a_process, [url] * processes, seconds, batch, is_set_based)
        steps, rate = sum(total for total, _ in answers), sum(counted for _, counted in answers) / seconds
    with psycopg.connect(url) as connection:
        advanced = connection.execute("SELECT sum(step)::bigint, (SELECT count(*) FROM history) FROM job").fetchone()
    if advanced != (steps, steps):
        raise RuntimeError(f"{steps} steps counted, {advanced} advanced and in the history")
    return rate


class _Loop:
    """The bare loop: what has been claimed, and how many steps are done."""

    def __init__(self, connection: psycopg.Connection, batch: int, *, is_set_based: bool, name: str = "p") -> None:
        self.connection = connection
        self.batch = batch
        self.name = name
        self.turn: Callable[[int], list[tuple[int, int, str, int]]] = self._many if is_set_based else self._each
        self.claimed: list[tuple[int, int, str, int]] = []
        self.turns = self.steps = 0

    def run_until(self, deadline: float) -> None:
        while time.perf_counter() < deadline:
            self.once()

    def once(self) -> int:
        """Make one turn; returns how many steps it has advanced."""
        self.turns += 1
        done = len(self.claimed)
        self.claimed = self.turn(time.time_ns() // 1_000_000)
        self.steps += done
        return done

    def _each(self, now: int) -> list[tuple[int, int, str, int]]:
        with self.connection.pipeline():
            if self.claimed:
                advance = self.connection.cursor()
                advance.executemany(ADVANCE, [(PAYLOAD, job, token) for job, _, token, _ in self.claimed])
                rows = [(job, step, step, at, now) for job, step, _, at in self.claimed]
                self.connection.cursor().executemany(RECORD, rows)
            claims = [
                self.connection.execute(CLAIM, (f"{self.name}.{self.turns}.{number}", now + LEASE_MS, now))
                for number in range(self.batch)
            ]
        if self.claimed and advance.rowcount != len(self.claimed):
            raise RuntimeError(f"{advance.rowcount} of {len(self.claimed)} claims could be advanced")
        return [row for claim in claims for row in claim.fetchall()]

    def _many(self, now: int) -> list[tuple[int, int, str, int]]:
        with self.connection.pipeline():
            if self.claimed:
                jobs, steps, tokens, ats = (list(each) for each in zip(*self.claimed, strict=True))
                advance = self.connection.execute(ADVANCE_MANY, (PAYLOAD, jobs, tokens))
                self.connection.execute(RECORD_MANY, (now, jobs, steps, ats))
            claim = self.connection.execute(CLAIM_MANY, (f"{self.name}.{self.turns}", now + LEASE_MS, now, self.batch))
        if self.claimed and advance.rowcount != len(self.claimed):
            raise RuntimeError(f"{advance.rowcount} of {len(self.claimed)} claims could be advanced")
        return claim.fetchall()


def _in_a_process(pipe: Pipe, url: str, batch: int, is_set_based: bool) -> None:
    with psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection:
        ((pid,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
        loop = _Loop(connection, batch, is_set_based=is_set_based, name=f"p{pid}")
        pipe.send("ready")
        began, over = pipe.recv()
        counted = 0
        while (now := time.monotonic()) < over:
            done = loop.once()
            counted += done if now >= began else 0
        pipe.send((loop.steps, counted))
