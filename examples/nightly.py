"""A job of every night, stored as a schedule: whichever worker is there fires it, once, and no crontab is needed.

    python examples/nightly.py                         # a demonstration of a few seconds
    python examples/nightly.py --store var/nightly     # the same, in a store that stays

The schedule "report" is due at 3:15 in Berlin. It is a row of the store, so defining it at every start of the program
is right: the same definition is a no-op, another one replaces it. Should no worker run at 3:15, the next one that
starts makes up for it. Whoever cannot wait for the night triggers it.

"pulse" is there so that something is seen to fire: every second, for as long as the demonstration lasts.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import threading
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from taquba_workflow_sync import Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowRuntime

SOURCE = Path(__file__).resolve().parent / "data" / "airports.csv"
ZONE = "Europe/Berlin"
PULSES = 2


class Nightly:
    """Writes the report; counts the pulses."""

    def __init__(self, reports: Path) -> None:
        self.reports = reports
        self.pulses = 0
        self.has_seen_enough = threading.Event()

    def run_step(self, step: Step) -> StepOutcome:
        if step.headers["job"] == "pulse":
            self.pulses += 1
            print(f"fired: pulse {self.pulses}", flush=True)
            if self.pulses >= PULSES:
                self.has_seen_enough.set()
            return Succeed()

        with SOURCE.open(encoding="utf-8", newline="") as file:
            airports = Counter(row["state"] for row in csv.DictReader(file))
        self.reports.mkdir(exist_ok=True)
        (self.reports / f"{step.run_id}.json").write_text(json.dumps(airports, indent=1))
        return Succeed(f"{airports.total()} airports in {len(airports)} states".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="Define a job of every night, and have it run now.")
    parser.add_argument("--store", type=Path, help="directory to keep the schedules in (default: a temporary one)")
    args = parser.parse_args()

    with ExitStack() as stack:
        store = args.store or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store.mkdir(parents=True, exist_ok=True)
        queue = stack.enter_context(Queue.open(store / "jobs"))
        nightly = Nightly(store / "reports")
        runtime = WorkflowRuntime(queue, nightly)
        runtime.schedule(
            "report",
            cron="15 3 * * *",
            timezone=ZONE,
            spec=RunSpec(headers={"job": "report"}),
            overlap="skip",
        )
        runtime.schedule("pulse", every=timedelta(seconds=1), spec=RunSpec(headers={"job": "pulse"}))
        for schedule in runtime.schedules():
            if schedule.cron and schedule.next_at:
                due = schedule.next_at.astimezone(ZoneInfo(schedule.timezone))
                print(f"{schedule.name}: {schedule.cron}, next at {due:%H:%M} in {schedule.timezone}")

        with runtime:
            report = runtime.wait(runtime.trigger("report"))
            assert nightly.has_seen_enough.wait(30), "nothing fired"
        runtime.unschedule("pulse")
        left = [schedule.name for schedule in runtime.schedules()]

    assert report.result == b"3376 airports in 57 states" and left == ["report"]
    print(f"triggered: {report.result.decode()}; defined for the nights to come: {', '.join(left)}")


if __name__ == "__main__":
    main()
