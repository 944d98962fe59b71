"""An ETL that survives kill -9: 3,376 airports from a CSV file into a SQLite table, as one run of 49 steps.

    python examples/quickstart.py            # start it, and kill -9 the pid it prints
    python examples/quickstart.py            # start it again: it goes on at the next step
    python examples/quickstart.py --fresh    # once it has finished: do it all again

Five stages (extract, validate, transform, load, report) work through the file in chunks of 300 rows, one step a chunk.
What passes from step to step is a few bytes of JSON that say where we are; the rows themselves are in the database.

A step runs *at least* once: a kill after it has written its rows and before the library has recorded its end makes it
run again. So every step writes its chunk in one transaction and by primary key, and doing it twice is doing it once.

The run is kept in ``var/quickstart/jobs`` below the current directory, the table in ``var/quickstart/airports.sqlite``;
``--store`` names another directory.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from taquba_workflow_sync import (
    Continue,
    IfFinished,
    Queue,
    RunSpec,
    RunState,
    Step,
    StepOutcome,
    Succeed,
    WorkflowRuntime,
)

SOURCE = Path(__file__).resolve().parent / "data" / "airports.csv"
RUN_ID = "airports-etl"
CHUNK = 300
EAST = ("GU", "CQ")  # states whose airports the file puts west of Greenwich, and
SOUTH = ("AS",)  # those that it puts north of the equator
HUBS = ("ATL", "ORD", "DFW", "DEN", "LAX", "JFK", "SEA", "ANC", "HNL", "SJU")

SCHEMA = """
    CREATE TABLE IF NOT EXISTS raw (line INTEGER PRIMARY KEY, iata, name, city, state, country, latitude, longitude);
    CREATE TABLE IF NOT EXISTS rejected (line INTEGER PRIMARY KEY, iata, name, reason);
    CREATE TABLE IF NOT EXISTS staged (line INTEGER PRIMARY KEY, iata, name, city, state, latitude, longitude, hub, km);
    CREATE TABLE IF NOT EXISTS airport (
        iata TEXT PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL, state TEXT NOT NULL,
        latitude REAL NOT NULL, longitude REAL NOT NULL, nearest_hub TEXT NOT NULL, km_to_hub INTEGER NOT NULL
    );
"""


class AirportEtl:
    """The runner: one call is one step, and the step's payload says which."""

    def __init__(self, database: Path, pause: float) -> None:
        self.database = database
        self.pause = pause

    def run_step(self, step: Step) -> StepOutcome:
        at = json.loads(step.payload)
        stage, first, last = at["stage"], at["offset"] + 1, min(at["offset"] + CHUNK, at["rows"])
        again = f"  (attempt {step.attempts})" if step.attempts > 1 else ""
        step.stopping.wait(self.pause)  # as if the work were heavier, so that a human has time to kill it

        if stage == "report":
            with transaction(self.database) as db:
                text = report(db)
            print(f"step {step.step_number:2}  report{again}", flush=True)
            return Succeed(text.encode())

        with transaction(self.database) as db:
            written = STAGES[stage](db, first, last)
        print(f"step {step.step_number:2}  {stage:<9}  lines {first}-{last}: {written} rows{again}", flush=True)

        if last < at["rows"]:
            return Continue(to_json({**at, "offset": last}))
        return Continue(to_json({**at, "offset": 0, "stage": stage_after(stage)}))


def extract(db: sqlite3.Connection, first: int, last: int) -> int:
    """Copy a chunk of the file, as it is, into the table ``raw``."""
    if first == 1:  # a new run: what an earlier one left in the working tables goes
        for table in ("raw", "rejected", "staged"):
            db.execute(f"DELETE FROM {table}")
    chunk = islice(read_source(), first - 1, last)
    rows = [(line, *row.values()) for line, row in enumerate(chunk, start=first)]
    return upsert(db, "raw", rows)


def validate(db: sqlite3.Connection, first: int, last: int) -> int:
    """Put aside the rows that must not be loaded, each with the reason."""
    query = "SELECT line, iata, name, state, latitude, longitude FROM raw WHERE line BETWEEN ? AND ?"
    bad = [
        (line, iata, name, reason)
        for line, iata, name, state, latitude, longitude in db.execute(query, (first, last))
        if (reason := fault(iata, state, latitude, longitude))
    ]
    return upsert(db, "rejected", bad)


def transform(db: sqlite3.Connection, first: int, last: int) -> int:
    """Give the good rows their types and repaired positions, and each airport the nearest hub with its distance."""
    hubs = {
        iata: (float(lat), float(lon))
        for iata, lat, lon in db.execute("SELECT iata, latitude, longitude FROM raw")
        if iata in HUBS
    }
    query = """
        SELECT line, iata, name, city, state, latitude, longitude FROM raw
        WHERE line BETWEEN ? AND ? AND line NOT IN (SELECT line FROM rejected)
    """
    rows = []
    for *fields, latitude, longitude in db.execute(query, (first, last)):
        here = repaired(fields[-1], float(latitude), float(longitude))
        km, hub = min((distance_km(here, there), iata) for iata, there in hubs.items())
        rows.append((*fields, *here, hub, round(km)))
    return upsert(db, "staged", rows)


def load(db: sqlite3.Connection, first: int, last: int) -> int:
    """Upsert a chunk into the table ``airport``; the first chunk also takes out what the source no longer has."""
    if first == 1:
        db.execute("DELETE FROM airport WHERE iata NOT IN (SELECT iata FROM staged)")
    query = """
        SELECT iata, name, city, state, latitude, longitude, hub, km FROM staged WHERE line BETWEEN ? AND ?
    """
    return upsert(db, "airport", db.execute(query, (first, last)).fetchall())


STAGES = {"extract": extract, "validate": validate, "transform": transform, "load": load}


def report(db: sqlite3.Connection) -> str:
    """Say in a few lines what the table holds."""
    (loaded,) = db.execute("SELECT count(*) FROM airport").fetchone()
    (rejected,) = db.execute("SELECT count(*) FROM rejected").fetchone()
    states = db.execute("SELECT state, count(*) FROM airport GROUP BY state ORDER BY 2 DESC, 1 LIMIT 5")
    reasons = db.execute("SELECT reason, count(*) FROM rejected GROUP BY reason")
    remote = db.execute("SELECT name, state, nearest_hub, km_to_hub FROM airport ORDER BY km_to_hub DESC, iata LIMIT 3")
    lines = [
        f"{loaded} airports loaded, {rejected} rows rejected: " + ", ".join(f"{reason} {n}" for reason, n in reasons),
        "most airports: " + ", ".join(f"{state} {count}" for state, count in states),
        *(f"far from any hub: {name} ({state}), {km} km from {hub}" for name, state, hub, km in remote),
    ]
    return "\n".join(lines)


def stage_after(stage: str) -> str:
    order = [*STAGES, "report"]
    return order[order.index(stage) + 1]


def fault(iata: str, state: str, latitude: str, longitude: str) -> str | None:
    """Say why a row of the file must not be loaded, or None."""
    if not iata.isalnum():
        return "no code"
    if state in ("", "NA"):
        return "no state"
    try:
        on_earth = abs(float(latitude)) <= 90 and abs(float(longitude)) <= 180
    except ValueError:
        on_earth = False
    return None if on_earth else "no position"


def repaired(state: str, latitude: float, longitude: float) -> tuple[float, float]:
    """Put back the signs that the source has lost, see ``data/README.md``."""
    return (-latitude if state in SOUTH else latitude), (-longitude if state in EAST else longitude)


def distance_km(here: tuple[float, float], there: tuple[float, float]) -> float:
    """Return the great-circle distance of two (latitude, longitude) pairs on a sphere of the earth's mean radius."""
    (lat1, lon1), (lat2, lon2) = (map(math.radians, point) for point in (here, there))
    h = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * 6371 * math.asin(math.sqrt(h))


def read_source() -> Iterator[dict[str, str]]:
    with SOURCE.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def upsert(db: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> int:
    """Write rows by primary key, so that writing them again changes nothing."""
    if rows:
        db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
    return len(rows)


@contextmanager
def transaction(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(database, timeout=30)) as db, db:  # commits, or rolls back if a step raises
        yield db


def to_json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def check_table(database: Path) -> None:
    """Compare the table with the file itself, whatever the steps have reported."""
    source = [
        (row["iata"], row["name"], *repaired(row["state"], float(row["latitude"]), float(row["longitude"])))
        for row in read_source()
        if fault(row["iata"], row["state"], row["latitude"], row["longitude"]) is None
    ]
    with transaction(database) as db:
        table = db.execute("SELECT iata, name, latitude, longitude FROM airport").fetchall()
    if len(table) != len(source) or checksum(table) != checksum(source):
        raise SystemExit(
            f"WRONG: the table has {len(table)} rows, {checksum(table)}, the file {len(source)}, {checksum(source)}"
        )
    print(f"table verified: {len(table)} rows, each once, checksum {checksum(table)} like the file's")


def checksum(rows: Iterable[tuple[object, ...]]) -> str:
    return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()[:16]


def first_step() -> bytes:
    """Return the run's input. It names the file's content: a run goes on only with the file it began with."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    return to_json({"stage": "extract", "offset": 0, "rows": sum(1 for _ in read_source()), "sha256": digest})


def main() -> None:
    parser = argparse.ArgumentParser(description="Load a CSV file of airports into SQLite, and survive kill -9.")
    parser.add_argument("--store", type=Path, default=Path("var/quickstart"), help="directory (default: %(default)s)")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds of pretended work a step")
    parser.add_argument("--fresh", action="store_true", help="start again if the run has finished")
    args = parser.parse_args()

    print(f"pid {os.getpid()}  (kill -9 {os.getpid()}, then start me again)", flush=True)
    args.store.mkdir(parents=True, exist_ok=True)
    database = args.store / "airports.sqlite"
    with closing(sqlite3.connect(database, timeout=30)) as db:
        db.executescript(SCHEMA)

    with Queue.open(args.store / "jobs") as queue:
        runtime = WorkflowRuntime(queue, AirportEtl(database, args.pause))
        again = IfFinished.RERUN if args.fresh else IfFinished.RERUN_FAILED
        handle = runtime.submit(RunSpec(run_id=RUN_ID, input=first_step(), if_finished=again))
        status = handle.status()
        if handle.newly_submitted:
            print(f"new run {RUN_ID}", flush=True)
        elif status is not None and status.state is RunState.SUCCEEDED:
            print(f"run {RUN_ID} has already finished; --fresh does it again", flush=True)
        elif status is not None:
            print(f"run {RUN_ID} is under way: going on at step {status.current_step}", flush=True)

        try:
            with runtime:
                print(handle.result().decode())
        except KeyboardInterrupt:
            raise SystemExit("stopped; start me again and I go on") from None
    check_table(database)


if __name__ == "__main__":
    main()
