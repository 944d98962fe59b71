"""Signals at random over workers and clients that use the features, and what their rules say: then, and meanwhile."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from taquba_workflow_sync import Queue, RunState, WorkflowClient, WorkflowRuntime
from tests.faults.checker import check
from tests.faults.features.client import FeatureClient, set_up
from tests.faults.features.rules import check_features, check_store
from tests.faults.features.runner import BARE, FeatureRunner, feature_hook
from tests.faults.features.view import look
from tests.faults.figures import Figures
from tests.faults.journal import Journal, read
from tests.faults.lab import open_queue
from tests.processes.harness import Child, Stage
from tests.support import PATIENCE, wait_until

PART = "features"
WORKERS, CLIENTS = 3, 2
_KILLS_PER_ROUND = 60
_LOOKS_EVERY = 5
_MASSACRE_EVERY = 25  # turns
_SMALL_WAL = 64 << 10  # so that checkpoints are among what is killed


def storm(
    directory: Path, seed: int, *, kills: int, until: float = float("inf"), has_large_groups: bool = False
) -> Figures:
    """Kill, stop and continue processes at random; then do what is left, and look at every rule."""
    directory.mkdir(exist_ok=True)
    stage = Stage(directory)
    journal = Journal(directory / "log")
    chance = random.Random(seed)
    large = ["--large-groups"] if has_large_groups else []
    figures = Figures(PART)
    try:
        with open_queue(stage.store) as queue:
            prepare(queue, journal)
        people = [_start(stage, journal, number, chance, *large) for number in range(WORKERS + CLIENTS)]
        _await(people)
        turn = 0
        while figures.faults["SIGKILL"] < kills and time.monotonic() < until:
            turn += 1
            if turn % _MASSACRE_EVERY == 2:
                _kill_all(people, journal, figures)
                time.sleep(chance.uniform(1.1, 1.8))  # moments of schedules are missed
                people = [_start(stage, journal, number, chance, *large) for number in range(len(people))]
            time.sleep(chance.uniform(0.1, 0.9))  # about as long as it takes to come up again
            ready = [number for number, each in enumerate(people) if each.said("ready")]
            number = chance.choice(ready if ready and chance.random() < 0.8 else range(len(people)))
            person = people[number]
            if chance.random() < 0.2:
                journal.note("stopping", target=person.pid)
                person.signal(signal.SIGSTOP)
                figures.faults["SIGSTOP"] += 1
                time.sleep(chance.uniform(0, 0.3))
                if chance.random() < 0.7:
                    person.signal(signal.SIGCONT)
                    continue  # the others are killed where they were stopped
            journal.note("killing", target=person.pid)
            person.signal(signal.SIGKILL)
            person.process.wait()
            figures.faults["SIGKILL"] += 1
            if figures.faults["SIGKILL"] % _LOOKS_EVERY == 0:
                check_store(look(stage.store), figures)  # while the others go on
            people[number] = _start(stage, journal, number, chance, *large)
        _await(people)
        for person in people[WORKERS:] + people[:WORKERS]:
            person.stops()
        settle(stage.store, journal, figures)
    finally:
        stage.close()
        journal.close()
    figures.notes.append(f"seed {seed}: {_said(directory / 'log')}")
    return figures


def _kill_all(people: list[Child], journal: Journal, figures: Figures) -> None:
    """Kill all, as a machine that goes down does."""
    for person in people:
        journal.note("killing", target=person.pid)
        person.signal(signal.SIGKILL)
    for person in people:
        person.process.wait()
    figures.faults["SIGKILL"] += len(people)
    figures.faults["SIGKILL of all"] += 1


def prepare(queue: Queue, journal: Journal, *, fires_for: float | None = None) -> None:
    """Register the hook, set the limits and define the schedules."""
    runtime = WorkflowRuntime(queue, FeatureRunner(journal), feature_hook(journal))
    runtime.submit_many([])
    set_up(runtime, fires_for=fires_for)


def settle(root: Path, journal: Journal, figures: Figures, *, limit: float = 600) -> None:
    """Do what is left to do in the store, send what is waited for, and look at every rule with nothing left over."""
    with open_queue(root) as queue:
        runtime = WorkflowRuntime(queue, FeatureRunner(journal), feature_hook(journal))
        client = FeatureClient(queue, journal, "settling", random.Random(0))
        client.go_on()
        deadline = time.monotonic() + limit
        while True:
            runtime.run_until_idle(limit, wait_for_scheduled=10)
            waiting = waiting_for_signals(runtime)
            if not waiting or time.monotonic() > deadline:
                break
            for number, (run, name) in enumerate(waiting):
                client.send(run, name, f"settling-{time.monotonic_ns()}-{number}")
        clear_up(queue)
    found = check(root, read(journal.path), is_idle=True, part=PART)
    figures.add(found)
    check_features(root, read(journal.path), figures, is_idle=True)


def waiting_for_signals(client: WorkflowClient) -> list[tuple[str, str]]:
    """Return the runs that wait for a signal, and its name."""
    found: list[tuple[str, str]] = []
    cursor = None
    while True:
        page = client.list_runs(RunState.PENDING, limit=1000, cursor=cursor)
        for run in page.runs:
            if run.waiting_for is not None and run.waiting_for.startswith("signal:"):
                found.append((run.run_id, run.waiting_for.removeprefix("signal:")))
        cursor = page.next_cursor
        if cursor is None:
            return found


def clear_up(queue: Queue) -> None:
    """Take what was enqueued, and sweep what nobody will open."""
    while (claim := queue.claim(BARE)) is not None:
        queue.ack(claim)
    while queue.handle.store.sweep():
        pass


def _await(people: list[Child]) -> None:
    for person in people:
        wait_until(lambda person=person: person.said("ready"), "a process that runs", 2 * PATIENCE)  # type: ignore[misc]


def _start(stage: Stage, journal: Journal, number: int, chance: random.Random, *more: str) -> Child:
    """Start a process; workers come first."""
    role = "worker" if number < WORKERS else "client"
    name = f"c{number}-{len(stage.children)}"
    words = [role, stage.store, journal.path, "--checkpoint", _SMALL_WAL, "--seed", chance.randrange(1 << 30)]
    errors = stage.directory / f"stderr-{len(stage.children)}"
    child = Child("tests.faults.features.actors", [*words, "--name", name, *more], errors=errors)
    stage.children.append(child)
    return child


def _said(log: Path) -> str:
    counts = Counter(event["event"] for event in read(log))
    names = ("begin", "sent", "received", "memo", "woken", "grouped", "committed")
    return ", ".join(f"{counts[name]} {name}" for name in names)


def long_form(minutes: float, directory: Path) -> Figures:
    """Storm after storm, each over a store of its own."""
    until = time.monotonic() + minutes * 60
    figures = Figures(PART)
    number = 0
    while time.monotonic() < until or not number:
        seed = random.SystemRandom().randrange(1 << 30)
        print(f"features {number}, seed {seed}", file=sys.stderr)
        figures.add(
            storm(directory / f"features-{number}", seed, kills=_KILLS_PER_ROUND, until=until, has_large_groups=True)
        )
        number += 1
    return figures
