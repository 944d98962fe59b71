"""Signals at random over worker and client processes, and what the log and the store say afterwards."""

from __future__ import annotations

import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path

from taquba_workflow_sync import WorkflowClient, WorkflowRuntime
from tests.faults.checker import check, looking_at
from tests.faults.figures import Figures
from tests.faults.journal import Event, Journal, read
from tests.faults.lab import LabRunner, hook_of, open_queue, register_hook, submit
from tests.processes.harness import Child, Stage
from tests.support import PATIENCE, wait_until

WORKERS, CLIENTS = 3, 2
_KILLS_PER_ROUND = 60
_SMALL_WAL = 64 << 10  # so that checkpoints are among what is killed


def storm(directory: Path, seed: int, *, kills: int, until: float = float("inf"), pause: float = 0.05) -> Figures:
    """Kill, stop and continue processes at random; then do what is left, and look at every invariant."""
    directory.mkdir(exist_ok=True)
    stage = Stage(directory)
    journal = Journal(directory / "log")
    chance = random.Random(seed)
    faults: Counter[str] = Counter()
    try:
        with open_queue(stage.store) as queue:
            register_hook(queue, journal)
        people = [_start(stage, journal, number, chance) for number in range(WORKERS + CLIENTS)]
        for person in people:
            wait_until(lambda person=person: person.said("ready"), "a process that runs", 2 * PATIENCE)  # type: ignore[misc]
        while faults["SIGKILL"] < kills and time.monotonic() < until:
            time.sleep(chance.uniform(0, 0.5))
            number = chance.randrange(len(people))
            person = people[number]
            if chance.random() < 0.2:
                journal.note("stopping", target=person.pid)
                person.signal(signal.SIGSTOP)
                faults["SIGSTOP"] += 1
                time.sleep(chance.uniform(0, 0.3))
                if chance.random() < 0.7:
                    person.signal(signal.SIGCONT)
                    continue  # the others are killed where they were stopped
            journal.note("killing", target=person.pid)
            person.signal(signal.SIGKILL)
            person.process.wait()
            faults["SIGKILL"] += 1
            people[number] = _start(stage, journal, number, chance)
        for person in people:
            wait_until(lambda person=person: person.said("ready"), "a process that runs", 2 * PATIENCE)  # type: ignore[misc]
        for person in people[WORKERS:] + people[:WORKERS]:
            person.stops()
        figures = settle(stage.store, journal, part="process death")
    finally:
        stage.close()
        journal.close()
    figures.faults += faults
    figures.notes.append(f"seed {seed}: {_repeated(read(directory / 'log'))}")
    return figures


def zombie(directory: Path) -> Figures:
    """Stop a worker until another has taken its steps over, then let it go on: it must learn that."""
    directory.mkdir(exist_ok=True)
    stage = Stage(directory)
    journal = Journal(directory / "log")
    figures = Figures("process death")
    try:
        first = _child(stage, journal, "worker", "--lease", 0.3)
        first.hear("ready")
        with open_queue(stage.store) as queue:
            client = WorkflowClient(queue)
            runs = [submit(client, journal, f"run-{number}", "linger go", 10) for number in range(3)]
            wait_until(lambda: len(_begun(journal, 1)) == len(runs), "all first steps")
            heir = _child(stage, journal, "worker", "--lease", 0.3)
            heir.hear("ready")
            journal.note("stopping", target=first.pid)
            while not _stopped_outside_of_a_commit(first, stage.store):
                figures.faults["SIGSTOP inside a commit"] += 1
            wait_until(lambda: len(_begun(journal, 2)) == len(runs), "the steps in another process", 4 * PATIENCE)
            first.signal(signal.SIGCONT)
            figures.faults["SIGSTOP until taken over"] += 1
            wait_until(lambda: len(_begun(journal, 1, "end")) == len(runs), "the end of the zombie's steps")
            for event in _begun(journal, 1, "end"):
                figures.expect("a zombie's token is set", event["is_set"], f"not for run {event['run']}")
            for run in range(3):
                client.wait(f"run-{run}", timeout=PATIENCE)
        for worker in (first, heir):
            worker.stops()
        figures.add(settle(stage.store, journal, part="process death"))
    finally:
        stage.close()
        journal.close()
    return figures


def _stopped_outside_of_a_commit(worker: Child, root: Path) -> bool:
    """Stop it; whether others can write then. One stopped inside a commit holds SQLite's lock, and is let go again."""
    worker.signal(signal.SIGSTOP)
    with looking_at(root) as connection:
        connection.execute("PRAGMA busy_timeout = 2000")
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            worker.signal(signal.SIGCONT)
            time.sleep(0.1)  # or the next stop could meet the same commit
            return False
    return True


def _begun(journal: Journal, attempt: int, event: str = "begin") -> list[Event]:
    """Return what was noted of the first steps' beginnings, or ends, at that attempt."""
    wanted = {"event": event, "step": 0, "attempt": attempt}
    return [each for each in read(journal.path) if wanted.items() <= each.items()]


def _start(stage: Stage, journal: Journal, number: int, chance: random.Random) -> Child:
    """Start a process; workers come first."""
    role = "worker" if number < WORKERS else "client"
    name = f"c{number}-{len(stage.children)}"
    return _child(stage, journal, role, "--seed", chance.randrange(1 << 30), "--name", name, "--pause", 0.05)


def _child(stage: Stage, journal: Journal, role: str, *more: object) -> Child:
    options = ["--checkpoint", _SMALL_WAL, *more]
    errors = stage.directory / f"stderr-{len(stage.children)}"
    child = Child("tests.faults.lab", [role, stage.store, journal.path, *options], errors=errors)
    stage.children.append(child)
    return child


def settle(root: Path, journal: Journal, *, part: str, limit: float = 120) -> Figures:
    """Do what is left to do in the store, then look at every invariant, with nothing left over."""
    with open_queue(root) as queue:
        runtime = WorkflowRuntime(queue, LabRunner(journal), hook_of(journal))
        runtime.run_until_idle(limit, wait_for_scheduled=10)
    return check(root, read(journal.path), is_idle=True, part=part)


def _repeated(events: list[Event]) -> str:
    """Say how many executions there were, and how many of them repeated a step whose process had been killed."""
    begun: Counter[tuple[str, int]] = Counter()
    raised: Counter[tuple[str, int]] = Counter()
    ends = 0
    for event in events:
        if event["event"] == "begin":
            begun[event["job"], event["step"]] += 1
        elif event["event"] == "end":
            ends += 1
            if event["outcome"] in ("raise", "fail", "dead"):
                raised[event["job"], event["step"]] += 1
    total = sum(begun.values())
    again = sum(max(0, times - 1 - raised[key]) for key, times in begun.items())
    return f"{total} executions, {total - ends} cut short by a kill, {again} steps repeated after one"


def long_form(minutes: float, directory: Path) -> Figures:
    """Storm after storm, each over a store of its own."""
    until = time.monotonic() + minutes * 60
    figures = Figures("process death")
    number = 0
    while time.monotonic() < until or not number:
        seed = random.SystemRandom().randrange(1 << 30)
        print(f"storm {number}, seed {seed}", file=sys.stderr)
        figures.add(storm(directory / f"storm-{number}", seed, kills=_KILLS_PER_ROUND, until=until))
        figures.add(zombie(directory / f"zombie-{number}"))
        number += 1
    return figures
