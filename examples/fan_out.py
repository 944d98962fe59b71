"""Fan out, fan in: one run splits its work into a group of runs, sleeps until the last has ended, and adds them up.

    python examples/fan_out.py

The parent makes a run for each state of the airport list and ends its step with ``ContinueOnGroup``: it waits as a row,
without a thread. Each member looks for the two airports of its state that are farthest apart. One of them fails: some
rows name no state. The parent sees that when it is woken, decides what such rows are to count as, has the failed
member tried again, and waits once more.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import tempfile
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path

from taquba_workflow_sync import (
    ContinueOnGroup,
    Fail,
    Queue,
    RunSpec,
    Step,
    StepOutcome,
    Succeed,
    TerminalStatus,
    WorkflowRuntime,
)

SOURCE = Path(__file__).resolve().parent / "data" / "airports.csv"
EARTH_KM = 6371


class Distances:
    """The parent's steps, and the one step of each member."""

    def __init__(self, decisions: Path) -> None:
        self.decisions = decisions

    def run_step(self, step: Step) -> StepOutcome:
        if "state" in step.headers:
            return self.measure(step)
        group_id = f"states-{step.run_id}"
        if step.group is None:
            # There with the end of the step, or not at all: an attempt that is cut short leaves nothing to be seen.
            states = [RunSpec(input=to_json(rows), headers={"state": state}) for state, rows in by_state().items()]
            step.effects.submit_group(group_id, states)
            print(f"step {step.step_number}: {len(states)} states to measure", flush=True)
            return ContinueOnGroup(b"", group_id)
        status = step.group.status()
        print(f"step {step.step_number}: {status.succeeded} measured, {status.failed} failed", flush=True)
        if status.failed:
            self.decisions.write_text("rows without a state are measured together")
            print(f"step {step.step_number}: {step.group.retry_failed()} tried again", flush=True)
            return ContinueOnGroup(b"", group_id)
        found: list[dict[str, object]] = []
        cursor = None
        while True:
            page = step.group.results(limit=20, cursor=cursor)
            found += [json.loads(each.result or b"") for each in page.results if each is not None]
            cursor = page.next_cursor
            if cursor is None:
                return Succeed(to_json(found))

    def measure(self, step: Step) -> StepOutcome:
        state = step.headers["state"]
        if state == "NA" and not self.decisions.exists():
            return Fail("some airports name no state; decide what they count as")
        airports = json.loads(step.payload)
        far = max(combinations(airports, 2), key=lambda pair: kilometres(*pair), default=(airports[0], airports[0]))
        return Succeed(to_json({"state": state, "km": round(kilometres(*far)), "from": far[0][0], "to": far[1][0]}))


def by_state() -> dict[str, list[tuple[str, float, float]]]:
    found: dict[str, list[tuple[str, float, float]]] = {}
    with SOURCE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            place = (row["name"], float(row["latitude"]), float(row["longitude"]))
            found.setdefault(row["state"], []).append(place)
    return found


def kilometres(one: list[float], other: list[float]) -> float:
    """Return the distance of two airports on a sphere (the haversine formula)."""
    north, east, to_north, to_east = map(math.radians, (one[1], one[2], other[1], other[2]))
    half = math.sin((to_north - north) / 2) ** 2
    half += math.cos(north) * math.cos(to_north) * math.sin((to_east - east) / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(half))


def to_json(value: object) -> bytes:
    return json.dumps(value).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure each state in a run of its own, and add up what they find.")
    parser.add_argument("--store", type=Path, help="directory to keep the runs in (default: a temporary one)")
    args = parser.parse_args()

    with ExitStack() as stack:
        store = args.store or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store.mkdir(parents=True, exist_ok=True)
        decisions = store / "decisions.txt"
        decisions.unlink(missing_ok=True)
        queue = stack.enter_context(Queue.open(store / "jobs"))
        runtime = stack.enter_context(WorkflowRuntime(queue, Distances(decisions)))
        outcome = runtime.submit().wait()
        status = runtime.status(outcome.run_id)

    assert outcome.status is TerminalStatus.SUCCEEDED, outcome.error
    found = sorted(json.loads(outcome.result or b""), key=lambda each: -each["km"])
    for each in found[:3]:
        print(f"{each['state']}: {each['km']} km from {each['from']} to {each['to']}")
    print(f"{len(found)} states after {status.current_step + 1 if status else '?'} steps of the parent")


if __name__ == "__main__":
    main()
