"""An ETL job that cron may start every minute: it does today's work once, however often it is started.

    * * * * * cd the/project && python examples/cron_etl.py --store var/cron_etl
    python examples/cron_etl.py        # a demonstration: two starts at the same moment

A start submits the run ``etl-<date>``, which is a no-op if the run is there, and works until nothing is left to do
(``run_until_idle``), so:

* two starts at once share the steps of one run, and no step is done by both;
* a start that is killed leaves a run that the next start goes on with;
* a start after the day's run has ended finds nothing to do;
* a run that has failed is begun afresh by the next start (``RERUN_FAILED``).

The day's work here: count the airports of each state, 500 lines a step, and load the counts into a table.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import closing
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path

from taquba_workflow_sync import (
    Continue,
    IfFinished,
    Queue,
    RunSpec,
    Step,
    StepOutcome,
    Succeed,
    WorkflowRuntime,
)

SOURCE = Path(__file__).resolve().parent / "data" / "airports.csv"
CHUNK = 500


class DailyEtl:
    """Counts in the payload, which moves with the run, and writes once, by primary key, at the end."""

    def __init__(self, database: Path) -> None:
        self.database = database

    def run_step(self, step: Step) -> StepOutcome:
        state = json.loads(step.payload)
        step.stopping.wait(0.1)  # as if the work were heavier
        with SOURCE.open(encoding="utf-8", newline="") as file:
            chunk = list(islice(csv.DictReader(file), state["line"], state["line"] + CHUNK))
        if chunk:
            say(f"step {step.step_number}: counted lines {state['line'] + 1}-{state['line'] + len(chunk)}")
            counts = Counter(state["counts"]) + Counter(row["state"] for row in chunk)
            return Continue(to_json({**state, "line": state["line"] + len(chunk), "counts": counts}))

        rows = [(state["date"], code, count) for code, count in state["counts"].items()]
        with closing(sqlite3.connect(self.database, timeout=30)) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS airports (day, state, airports, PRIMARY KEY (day, state))")
            db.executemany("INSERT OR REPLACE INTO airports VALUES (?, ?, ?)", rows)
        say(f"step {step.step_number}: loaded {len(rows)} states")
        return Succeed()


def start(store: Path, day: date) -> None:
    """Do what cron starts: make sure that the day's run is there, and work until there is nothing to do."""
    store.mkdir(parents=True, exist_ok=True)
    with Queue.open(store / "jobs") as queue:
        runtime = WorkflowRuntime(queue, DailyEtl(store / "etl.sqlite"))
        first = to_json({"date": day.isoformat(), "line": 0, "counts": {}})
        handle = runtime.submit(RunSpec(run_id=f"etl-{day}", input=first, if_finished=IfFinished.RERUN_FAILED))
        counts = runtime.run_until_idle(timeout=50)  # in time for the next start
        status = handle.status()
    say(f"{counts.steps} steps done here; run etl-{day} is {status.state if status else 'not kept'}")


def say(text: str) -> None:
    print(f"{os.getpid()} {text}", flush=True)


def to_json(value: object) -> bytes:
    return json.dumps(value).encode()


def demonstrate(store: Path) -> None:
    """Start twice at the same moment and once afterwards, and check that the work was done once."""
    command = [sys.executable, __file__, "--store", str(store), "--date", "2026-11-22"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    output = "".join(process.communicate()[0] for process in both)
    print(f"two starts at once:\n{output}", end="")
    after = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    print(f"one start afterwards:\n{after}", end="")

    with closing(sqlite3.connect(store / "etl.sqlite")) as db:
        rows, airports = db.execute("SELECT count(*), sum(airports) FROM airports").fetchone()
    steps = [line.split()[2] for line in output.splitlines() if line.split()[1] == "step"]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(steps) == [f"{number}:" for number in range(8)], steps
    assert "step 0 " not in after and " 0 steps done here" in after and "succeeded" in after
    assert (rows, airports) == (57, 3376)
    print(f"8 steps ran, each once; {airports} airports in {rows} states")


def main() -> None:
    parser = argparse.ArgumentParser(description="Do the day's work once, however often this is started.")
    parser.add_argument("--store", type=Path, help="directory of the run and the table (default: demonstrate)")
    parser.add_argument(
        "--date", type=date.fromisoformat, default=datetime.now(UTC).date(), help="default: today (UTC)"
    )
    args = parser.parse_args()
    if args.store:
        start(args.store, args.date)
    else:
        with tempfile.TemporaryDirectory() as directory:
            demonstrate(Path(directory))


if __name__ == "__main__":
    main()
