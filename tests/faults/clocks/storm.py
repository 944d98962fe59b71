"""A wall clock that steps, and a machine that stands still, under load: three workers, two clients, and the checker."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, JOB
from tests.faults.checker import looking_at
from tests.faults.clocks.times import HOUR, SharedOffset
from tests.faults.figures import Figures
from tests.faults.journal import Event, Journal, read
from tests.faults.lab import open_queue, register_hook
from tests.faults.storm import CLIENTS, WORKERS, settle
from tests.processes.harness import Child, Stage

JUMPS = (HOUR, -HOUR, 1.0, -1.0, 0.0)
LEASE = 1.0
#: For how many leases a machine stands still: about as long as it takes to be overdue, and more than ten.
STANDSTILLS = (0.2, 1.5, 3.0)
LONG_STANDSTILLS = (*STANDSTILLS, 12.0)
# Longer than a lease, so that claims are renewed, and overdue by a clock that was set forward.
_WORDS = "go go nap:0.02 nap:0.3 nap:1.5 raise"
#: What the wall clock of the kind promises for delays decides whether its plans have any.
WORDS = {"system": f"{_WORDS} later:0.05 later:0.5", "user": _WORDS}
_EARLY = 0.005


def storm(
    directory: Path,
    seed: int,
    *,
    kind: str,
    steps: int,
    stops: int = 0,
    standstills: Sequence[float] = STANDSTILLS,
    until: float = float("inf"),
) -> Figures:
    """Set the wall clock of all processes ``steps`` times, stop and continue them all ``stops`` times; then settle."""
    directory.mkdir(exist_ok=True)
    stage = Stage(directory)
    journal = Journal(directory / "log")
    offset = SharedOffset(directory / "offset")
    chance = random.Random(seed)
    faults: Counter[str] = Counter()
    began_ms = time.time() * 1000
    try:
        with open_queue(stage.store) as queue:
            register_hook(queue, journal)
        people = [_start(stage, journal, kind, number, chance) for number in range(WORKERS + CLIENTS)]
        for person in people:
            person.hear("ready")
        acts = ["step"] * steps + ["stop"] * stops
        chance.shuffle(acts)
        for act in acts:
            if time.monotonic() >= until:
                break
            time.sleep(chance.uniform(0.05, 0.4))
            if act == "step":
                jump = chance.choice(JUMPS)
                offset.set(jump)
                faults[f"wall clock set {jump:+.0f} s"] += 1
            else:
                stand_still(people, chance, chance.choice(standstills) * LEASE)
                faults["SIGSTOP of all"] += 1
        for person in people[WORKERS:] + people[:WORKERS]:
            person.stops()
        figures = settle(stage.store, journal, part="time")
    finally:
        stage.close()
        journal.close()
        offset.close()
    figures.faults += faults
    events = read(directory / "log")
    check_times(stage.store, began_ms, figures)
    check_ids(events, figures)
    check_charges(events, figures)
    check_delays(events, figures)
    begun = sum(event["event"] == "begin" for event in events)
    figures.notes.append(f"seed {seed}, {kind} clock: {begun} executions")
    return figures


def stand_still(people: Sequence[Child], chance: random.Random, seconds: float) -> None:
    """Stop all, as a suspended machine does, and have them go on in another order."""
    for person in chance.sample(list(people), len(people)):
        person.signal(signal.SIGSTOP)
    time.sleep(seconds)
    for person in chance.sample(list(people), len(people)):
        person.signal(signal.SIGCONT)


def _start(stage: Stage, journal: Journal, kind: str, number: int, chance: random.Random) -> Child:
    """Start a process; workers come first."""
    role = "worker" if number < WORKERS else "client"
    words: list[object] = [stage.directory / "offset", kind, WORDS[kind], role, stage.store, journal.path]
    words += ["--seed", chance.randrange(1 << 30), "--name", f"c{number}", "--pause", 0.1, "--lease", LEASE]
    words += ["--durability", "relaxed", "--meddling", 0.1, "--concurrency", 6]
    errors = stage.directory / f"stderr-{len(stage.children)}"
    child = Child("tests.faults.clocks.people", words, errors=errors)
    stage.children.append(child)
    return child


# -- what is looked at beside the checker's own invariants -----------------------------------------------------------


def check_times(root: Path, began_ms: float, figures: Figures) -> None:
    """Nobody died, so nothing was taken over; every stored time is that of some clock there was."""
    least, most = began_ms - HOUR * 1000 - 2_000, time.time() * 1000 + HOUR * 1000 + 2_000
    with looking_at(root) as connection:
        reaped = connection.execute(f"SELECT count(*) FROM {ATTEMPT} WHERE outcome = 'reaped'").fetchone()[0]
        figures.expect("no live claim is taken over", reaped == 0, f"{reaped} claims were")
        for columns, table in (("enqueued_ms, finished_ms", JOB), ("claimed_ms, ended_ms", ATTEMPT)):
            for row in connection.execute(f"SELECT {columns} FROM {table}"):
                sane = all(value is not None and least <= value <= most for value in row)
                figures.expect("stored times are sane", sane, f"{table}: {tuple(row)}")


def check_ids(events: Sequence[Event], figures: Figures) -> None:
    """Ids are unique, and ascend within each process."""
    jobs = [(event["pid"], event["job"]) for event in events if event["event"] == "acknowledged"]
    figures.expect("ids are unique", len({job for _, job in jobs}) == len(jobs), "an id was made twice")
    by_process: dict[int, list[str]] = defaultdict(list)
    for pid, job in jobs:
        by_process[pid].append(job)
    for pid, made in by_process.items():
        figures.expect("ids ascend within a process", made == sorted(made), f"those of {pid} do not")


def check_charges(events: Sequence[Event], figures: Figures) -> None:
    """An attempt is charged for a step that failed, and for nothing else; a retry of the run begins anew."""
    failed: Counter[tuple[str, int]] = Counter()
    retried: set[str] = set()
    for event in events:
        if event["event"] == "retrying":
            retried.add(event["job"])  # or refused, as the next attempt tells
        elif event["event"] == "begin":
            if event["job"] in retried and event["attempt"] == 1:
                failed[event["job"], event["step"]] = 0
            retried.discard(event["job"])
            expected = failed[event["job"], event["step"]] + 1
            name = f"step {event['step']} of {event['run']}"
            figures.expect("attempts", event["attempt"] == expected, f"{name}: {event['attempt']}, not {expected}")
        elif event["event"] == "end" and event["outcome"] == "raise":
            failed[event["job"], event["step"]] += 1


def check_delays(events: Sequence[Event], figures: Figures) -> None:
    """No delayed step began before its time, by the clock that never steps."""
    plans = {event["run"]: event["plan"].split() for event in events if event["event"] == "submitting"}
    due: dict[tuple[str, int], float] = {}
    for event in events:
        if event["event"] == "end" and event["outcome"] == "continue" and "at" in event:
            word, _, number = plans[event["run"]][event["step"]].partition(":")
            if word == "later":
                due[event["job"], event["step"] + 1] = event["at"] + float(number)
        elif event["event"] == "begin" and "at" in event and (event["job"], event["step"]) in due:
            early = due.pop((event["job"], event["step"])) - event["at"]
            name = f"step {event['step']} of {event['run']}"
            figures.expect("delays are not early", early <= _EARLY, f"{name}: by {early:.3f} s")


def long_form(minutes: float, directory: Path) -> Figures:
    """Storm after storm, each over a store of its own: the clock steps, and now and then all processes stand still."""
    until = time.monotonic() + minutes * 60
    figures = Figures("time")
    number = 0
    while time.monotonic() < until or not number:
        seed = random.SystemRandom().randrange(1 << 30)
        kind = ("system", "user")[number % 2]
        print(f"clocks {number}, {kind}, seed {seed}", file=sys.stderr)
        figures.add(
            storm(
                directory / f"clocks-{number}",
                seed,
                kind=kind,
                steps=60,
                stops=6,
                standstills=LONG_STANDSTILLS,
                until=until,
            )
        )
        number += 1
    return figures
