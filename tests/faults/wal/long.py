"""The long run: four writing processes, a checkpoint after almost every commit, kills, openings and closes throughout.

It goes in rounds, each over a store of its own. Every second round is recorded and audited as a whole; the others run
at full speed. How often the WAL was reset is read from the WAL's own header.
"""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import struct
import sys
import time
from pathlib import Path

from tests.faults import interpose
from tests.faults.checker import check_counters, check_file, looking_at
from tests.faults.figures import Figures
from tests.faults.journal import Journal
from tests.faults.lab import open_queue, register_hook
from tests.faults.storm import settle
from tests.faults.wal.audit import audit
from tests.faults.wal.window import is_affected
from tests.processes.harness import Child, Stage
from tests.support import PATIENCE, wait_until

PART = "WAL reset"
_ROLES = ("worker", "worker", "client", "client")
_ROUND = 30.0
_RECORDED_ROUND = 15.0
_LOOK_EVERY = 3.0
#: What a few commits fill, so that the WAL starts over all the time.
_TINY = 32 << 10
#: More resets than this between two looks is another WAL.
_POSSIBLE = 1_000_000


class Resets:
    """Counts how often the WAL began anew: its header's first salt goes up by one each time, whoever does it.

    A WAL that was removed and made anew has a salt by chance; what it counted since is left out.
    """

    def __init__(self, wal: Path) -> None:
        self._wal = wal
        self._last: int | None = None
        self.total = 0

    def look(self) -> None:
        """Take note of how far the salt has counted."""
        try:
            header = _head(self._wal)
        except FileNotFoundError:
            return
        if len(header) < 32:
            return
        salt = struct.unpack_from(">I", header, 16)[0]
        since = (salt - (salt if self._last is None else self._last)) & 0xFFFFFFFF
        self.total += since if since < _POSSIBLE else 0
        self._last = salt


def _head(path: Path) -> bytes:
    """Read the header; SQLite takes no lock on this file, so closing a descriptor of it lets go of none."""
    with path.open("rb") as file:
        return file.read(32)


def long_form(minutes: float, directory: Path) -> Figures:
    """Round after round; the sentence in the notes says how many resets there were, and on which SQLite."""
    until = time.monotonic() + minutes * 60
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"WAL reset: seed {seed}", file=sys.stderr)
    chance = random.Random(seed)
    figures = Figures(PART)
    resets = completed = audited = records = number = 0
    reason = interpose.missing()
    while time.monotonic() < until or not number:
        is_recorded = reason is None and number % 2 == 0
        longest = _RECORDED_ROUND if is_recorded else _ROUND
        left = until - time.monotonic()
        over = time.monotonic() + (left / 2 if left < longest and not number else min(left, longest))
        place = directory / f"round-{number}"
        place.mkdir(parents=True)
        recorder = (
            interpose.Recorder(place / "record", watched=place.resolve() / "store", data=False) if is_recorded else None
        )
        before = len(figures.violations)
        try:
            try:
                resets += play(place, chance, figures, over, recorder)
            except AssertionError as error:  # a process that did not come up, or ended badly
                figures.violations.append(f"round {number}: {error}")
            if recorder is not None:
                found = audit(recorder.read())
                figures.checked["checkpoint beside commits"] += len(found.checkpoints) + len(found.closes)
                figures.violations += found.violations[:20]
                completed += len(found.completed)
                audited += len(found.resets)
                records += found.records
                figures.expect("the record holds checkpoints", bool(found.completed), "it holds none")
        finally:
            if recorder is not None:
                recorder.close()
        if len(figures.violations) == before:  # otherwise the store is the evidence
            shutil.rmtree(place)
        number += 1
    version = f"SQLite {sqlite3.sqlite_version}, {'affected' if is_affected() else 'not affected'}"
    figures.notes.append(
        f"seed {seed}: {version} by the WAL-reset fault; at least {resets} resets in {number} rounds, each after a"
        f" checkpoint that completed; recorded and audited: {records} calls, {audited} resets, {completed} checkpoints"
        + ("" if reason is None else f" ({reason})")
    )
    return figures


def play(place: Path, chance: random.Random, figures: Figures, over: float, recorder: interpose.Recorder | None) -> int:
    """Play one round; return how often the WAL was reset."""
    stage = Stage(place)
    journal = Journal(place / "log")
    environment = {} if recorder is None else recorder.environment()
    resets = Resets(stage.store / "db" / "cache.db-wal")

    def start(number: int) -> Child:
        options = ["--checkpoint", _TINY, "--seed", chance.randrange(1 << 30), "--pause", 0.005]
        arguments = [_ROLES[number], stage.store, journal.path, *options, "--name", f"c{len(stage.children)}"]
        child = Child(
            "tests.faults.lab", arguments, errors=place / f"stderr-{len(stage.children)}", environment=environment
        )
        stage.children.append(child)
        return child

    try:
        with open_queue(stage.store) as queue:
            register_hook(queue, journal)
        people = [start(number) for number in range(len(_ROLES))]
        for person in people:
            wait_ready(person)
        next_look = time.monotonic()
        while time.monotonic() < over:
            time.sleep(chance.uniform(0.2, 2.0))
            resets.look()
            if time.monotonic() >= next_look:
                look(stage.store, figures)
                next_look = time.monotonic() + _LOOK_EVERY
            number = chance.randrange(len(people))
            if chance.random() < 0.3:
                wait_ready(people[number])
                people[number].stops()
                figures.faults["close and open"] += 1
            else:
                journal.note("killing", target=people[number].pid)
                people[number].signal(signal.SIGKILL)
                people[number].process.wait()
                figures.faults["SIGKILL"] += 1
            people[number] = start(number)
        for person in people:
            wait_ready(person)
        for person in reversed(people):  # clients first
            resets.look()
            person.stops()
        figures.add(settle(stage.store, journal, part=PART))
    finally:
        stage.close()
        journal.close()
    return resets.total


def wait_ready(person: Child) -> None:
    """Wait until it runs; it may have said so long ago."""
    wait_until(lambda: person.said("ready"), "the process runs", 2 * PATIENCE)


def look(store: Path, figures: Figures) -> None:
    """See that the file is whole and that its counters are right, in the midst of the writing; briefly."""
    try:
        with looking_at(store) as connection:
            connection.execute("BEGIN")
            check_file(connection, figures)
            check_counters(connection, figures)
            connection.execute("ROLLBACK")
    except sqlite3.DatabaseError as error:
        figures.expect("the file can be read while it is written", False, repr(error))
