"""The long form: every operation of every call, then processes under load and a disk that fails at random."""

from __future__ import annotations

import errno
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from tests.faults import interpose
from tests.faults.disk import volume as volumes
from tests.faults.disk.bench import FAULTS, Bench, strike_everywhere
from tests.faults.disk.calls import CALLS
from tests.faults.disk.plant import Plant
from tests.faults.disk.volume import mounted
from tests.faults.figures import Figures
from tests.processes.harness import Child

WORKERS, CLIENTS = 2, 1
_ROUND = 25.0
_SMALL_LOG = 64 << 10  # so that checkpoints are among what fails


def long_form(minutes: float, directory: Path) -> Figures:
    """Enumerate once, then round after round of random failures, each over a store of its own."""
    until = time.monotonic() + minutes * 60
    figures = Figures("disk")
    reason = volumes.missing() or interpose.missing()
    if reason is not None:
        figures.notes.append(f"left out: {reason}")
        return figures
    chance = random.Random()
    directory.mkdir(exist_ok=True)
    _enumerate(directory / "calls", until, figures)
    number = 0
    while time.monotonic() < until or not number:
        seed = chance.randrange(1 << 30)
        print(f"disk, round {number}, seed {seed}", file=sys.stderr)
        figures.add(one_round(directory / f"round-{number}", seed, min(until, time.monotonic() + _ROUND)))
        number += 1
    return figures


def _enumerate(directory: Path, until: float, figures: Figures) -> None:
    """Have each operation below each call fail, as far as half of the time allows; a violation is a sentence."""
    directory.mkdir()
    half = time.monotonic() + (until - time.monotonic()) / 2
    with mounted(directory / "volume", size=16 << 20, inodes=4000) as volume:
        bench = Bench(directory, volume)
        try:
            for name, fault in ((name, fault) for name in CALLS for fault in FAULTS):
                if time.monotonic() > half:
                    figures.notes.append(f"the enumeration of operations ended before {name}, {fault}")
                    return
                try:
                    with bench.prepared(name, 1) as place:
                        figures.faults["operation of a call"] += strike_everywhere(bench, place, FAULTS[fault])
                    figures.checked["the answer agrees with the store"] += 1
                except AssertionError as error:
                    figures.violations.append(f"{name}, {fault}: {error}")
        finally:
            bench.close()


def one_round(directory: Path, seed: int, until: float) -> Figures:
    """Load, and trouble after trouble; then what is left is done, and every invariant looked at."""
    directory.mkdir()
    chance = random.Random(seed)
    faults: Counter[str] = Counter()
    with mounted(directory / "volume", size=24 << 20, inodes=4000) as volume:
        plant = Plant(volume, directory)
        try:
            people = [_start(plant, number, chance) for number in range(WORKERS + CLIENTS)]
            for person in people:
                person.hear("ready")
            while time.monotonic() < until:
                faults[_trouble(plant, people, chance)] += 1
                _wait(chance.uniform(0, 0.5))
                for number, person in enumerate(people):
                    if person.process.poll() is not None:
                        assert person.process.returncode == -signal.SIGKILL, f"a process ended: {person.errors}"
                        people[number] = _start(plant, number, chance)
                        people[number].hear("ready")
            for person in people[WORKERS:] + people[:WORKERS]:
                person.stops()
            figures = plant.settle()
        except AssertionError as error:
            figures = Figures("disk", violations=[f"seed {seed}: {error}"])
        finally:
            plant.close()
            volume.give_back()
    figures.faults += faults
    figures.notes.append(f"seed {seed}: {sum(faults.values())} troubles")
    return figures


def _start(plant: Plant, number: int, chance: random.Random) -> Child:
    role = "worker" if number < WORKERS else "client"
    name = f"c{number}-{len(plant.children)}"
    options = ["--checkpoint", _SMALL_LOG, "--seed", chance.randrange(1 << 30), "--name", name, "--pause", 0.05]
    return plant.start(role, *options)


def _trouble(plant: Plant, people: list[Child], chance: random.Random) -> str:
    """Have one thing go wrong for a while; say what."""
    kind = chance.choice(["full", "full", "rule", "rule", "rule", "kill in a rule"])
    length = chance.uniform(0.02, 1.5)
    if kind == "full":
        plant.volume.fill(leaving=chance.choice([0, 0, 1, 2, 5, 20]), is_alone=False)
        _wait(length)
        plant.volume.give_back()
        return "disk full"
    operations = chance.choice(["write", "fsync", "write fsync", "ftruncate", "write fsync ftruncate unlink open"])
    error = chance.choice([errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
    options = {
        "suffix": chance.choice(["", "-wal", "cache.db", "-shm"]),
        "after": chance.random() < 0.3,
        "skip": chance.randrange(20),
        "times": chance.choice([None, None, 1, 3]),
        "pid": chance.choice([0, 0, *(person.pid for person in people)]),
    }
    with plant.recorder.rule(operations, fails=error, **options):  # type: ignore[arg-type]
        _wait(length)
        if kind == "rule":
            return f"{operations} fails"
        victim = chance.choice(people)
        plant.journal.note("killing", target=victim.pid)
        victim.signal(signal.SIGKILL)
        victim.process.wait()
    return "SIGKILL while operations fail"


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)
