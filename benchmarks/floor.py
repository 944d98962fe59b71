"""The floor: how fast bare sqlite3 makes the row changes of a step, with nothing around them.

Measured is one thread and one connection (WAL, synchronous=FULL, one fsync per commit). Every transaction does what
a durable step runtime has to do for a batch: advance the rows claimed by the transaction before it, guarded by their
claim token, add one history row for each, and claim the next batch from the front of the line. The steps themselves
do nothing. Statements are one per row, by executemany.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

SCHEMA = """
CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    run_id TEXT,
    status TEXT NOT NULL,
    priority INTEGER NOT NULL,
    place INTEGER NOT NULL,
    step INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    token TEXT,
    lease_until_ms INTEGER,
    claimed_at_ms INTEGER,
    enqueued_at_ms INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX job_pending ON job (queue, priority, place) WHERE status = 'pending';
CREATE INDEX job_claimed ON job (lease_until_ms) WHERE lease_until_ms IS NOT NULL;
CREATE UNIQUE INDEX job_run ON job (queue, run_id) WHERE run_id IS NOT NULL;
CREATE TABLE history (
    job INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    claimed_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (job, ordinal)
) WITHOUT ROWID;
"""

SUBMIT = """
INSERT INTO job (job_id, queue, run_id, status, priority, place, step, attempts, max_attempts, enqueued_at_ms, payload)
VALUES (?, 'steps', ?, 'pending', 1000, ?, 0, 0, 3, ?, ?)
"""
FRONT = "SELECT id, step FROM job WHERE queue = 'steps' AND status = 'pending' ORDER BY priority, place LIMIT ?"
CLAIM = """
UPDATE job SET status = 'claimed', token = ?, lease_until_ms = ?, claimed_at_ms = ?, attempts = attempts + 1
WHERE id = ? AND status = 'pending'
"""
ADVANCE = """
UPDATE job SET status = 'pending', token = NULL, lease_until_ms = NULL, claimed_at_ms = NULL, attempts = 0,
    step = step + 1, payload = ?, place = ?
WHERE id = ? AND token = ? AND status = 'claimed'
"""
RECORD = "INSERT INTO history VALUES (?, ?, ?, 1, ?, ?, 'continue')"

LEASE_MS = 30_000
WARMUP_SECONDS = 0.5
PAYLOAD = b"payload of a tiny step"

# job row id, step, token, claimed at
Claimed = tuple[int, int, str, int]


def run_floor(directory: Path, seconds: float = 3.0, batch: int = 16, runs: int = 1000) -> float:
    """Measure the floor in a new database below `directory` and return steps per second.

    `runs` rows take turns, as the runs of a busy queue do; `batch` steps share one commit. Raises RuntimeError if the
    rows do not add up to the steps counted.
    """
    if not 0 < batch <= runs:
        raise ValueError(f"batch must be between 1 and runs ({runs}), not {batch}")
    directory.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="floor-", dir=directory) as place,
        closing(_open(Path(place) / "floor.db")) as connection,
    ):
        _submit(connection, runs)
        loop = _Loop(connection, batch, next_place=runs)
        loop.run(WARMUP_SECONDS)
        before = loop.steps
        began = time.perf_counter()
        loop.run(seconds)
        took = time.perf_counter() - began
        _check(connection, loop.steps)
        return (loop.steps - before) / took


class _Loop:
    """The bare loop: what has been claimed, and how many steps are done."""

    def __init__(self, connection: sqlite3.Connection, batch: int, next_place: int) -> None:
        self.connection = connection
        self.batch = batch
        self.next_place = next_place
        self.claimed: list[Claimed] = []
        self.steps = 0

    def run(self, seconds: float) -> None:
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            self.connection.execute("BEGIN IMMEDIATE")
            self._advance()
            self._claim()
            self.connection.execute("COMMIT")

    def _advance(self) -> None:
        if not self.claimed:
            return
        now = _now_ms()
        places = range(self.next_place, self.next_place + len(self.claimed))
        changed = self.connection.executemany(
            ADVANCE,
            [(PAYLOAD, place, job, token) for place, (job, _, token, _) in zip(places, self.claimed, strict=True)],
        ).rowcount
        if changed != len(self.claimed):
            raise RuntimeError(f"{changed} of {len(self.claimed)} claims could be advanced")
        self.connection.executemany(RECORD, [(job, step, step, at, now) for job, step, _, at in self.claimed])
        self.next_place = places.stop
        self.steps += len(self.claimed)

    def _claim(self) -> None:
        now = _now_ms()
        front = self.connection.execute(FRONT, (self.batch,)).fetchall()
        self.claimed = [(job, step, secrets.token_hex(8), now) for job, step in front]
        self.connection.executemany(CLAIM, [(token, now + LEASE_MS, now, job) for job, _, token, _ in self.claimed])


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    # The default of 1,000 pages (4 MB): a checkpoint every few hundred batches, its fsyncs are part of the figure.
    connection.execute("PRAGMA wal_autocheckpoint=1000")
    connection.executescript(SCHEMA)
    return connection


def _submit(connection: sqlite3.Connection, runs: int) -> None:
    now = _now_ms()
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(SUBMIT, [(secrets.token_hex(13), f"run-{n}", n, now, PAYLOAD) for n in range(runs)])
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, steps: int) -> None:
    (advanced,) = connection.execute("SELECT sum(step) FROM job").fetchone()
    (recorded,) = connection.execute("SELECT count(*) FROM history").fetchone()
    if not advanced == recorded == steps:
        raise RuntimeError(f"{steps} steps counted, {advanced} advanced, {recorded} in the history")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the floor: steps per second of bare sqlite3.")
    parser.add_argument("directory", type=Path, help="a directory on the disk to measure")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--runs", type=int, default=1000)
    options = parser.parse_args()
    steps_per_s = run_floor(options.directory, options.seconds, options.batch, options.runs)
    print(json.dumps({"floor": round(steps_per_s), "batch": options.batch, "sqlite": sqlite3.sqlite_version}))


if __name__ == "__main__":
    main()
