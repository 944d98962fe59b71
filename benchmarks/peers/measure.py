"""What all peer scripts share: the command line, the clock, the choice of the fastest setting and the line printed.

A peer script describes one or more *settings* of its library (numbers of workers, ways to use it). Each setting is
probed briefly and the two fastest are measured, so that every peer is shown at its best. This module needs the standard
library only, since it runs in every peer's environment.

Durability is not taken on trust: `require_wal_and_full_fsync` looks at the database the peer made.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import json
import platform
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

# A script that hangs ends itself after this time, with a traceback of every thread.
HARD_LIMIT_SECONDS = 58.0
# One batch that has not ended by then is an error.
BATCH_LIMIT_SECONDS = 25.0
FIRST_BATCH_STEPS = 200
PROBE_SECONDS = 1.0
# Probes are noisy, so the two fastest are measured and the better one counts.
FINALISTS = 2
WARMUP_SHARE = 0.2
STEPS_PER_RUN = 50

FSYNC_PER_COMMIT = "fsync per commit"


class WorkIncompleteError(RuntimeError):
    """Raised when the peer's own record of what it did does not match what was executed."""


class Meter:
    """Count the steps executed, from any thread, and time those after the warm-up."""

    def __init__(self, total: int) -> None:
        if total < 2:
            raise ValueError(f"total must be at least 2, not {total}")
        self.total = total
        self.warmup = max(1, int(total * WARMUP_SHARE))
        self.finished = threading.Event()
        self._numbers = itertools.count(1)
        self._began = self._ended = 0.0

    def step(self) -> None:
        """Note one executed step: the step of the workload calls this, and does nothing else."""
        number = next(self._numbers)
        if number == self.warmup:
            self._began = time.perf_counter()
        if number == self.total:
            self._ended = time.perf_counter()
            self.finished.set()

    def wait(self) -> None:
        """Wait until the last step has been executed."""
        if not self.finished.wait(BATCH_LIMIT_SECONDS):
            raise WorkIncompleteError(f"{self._count()} of {self.total} steps after {BATCH_LIMIT_SECONDS:.0f} s")

    def expect(self, settled: int) -> None:
        """Raise unless exactly all steps were executed, and the peer has settled as many as it should have."""
        executed = self._count()
        if not executed == settled == self.total:
            raise WorkIncompleteError(f"of {self.total} steps {executed} were executed and {settled} settled")

    def _count(self) -> int:
        """Return the number of steps so far. It uses up a number, so only at the end of a batch."""
        return next(self._numbers) - 1

    def timing(self) -> Timing:
        return Timing(self.total - self.warmup, self._ended - self._began)


@dataclass(frozen=True, slots=True)
class Timing:
    """Steps that were executed after the warm-up, and the time they took."""

    steps: int
    seconds: float

    @property
    def steps_per_s(self) -> float:
        return self.steps / self.seconds


# Executes all steps of the meter on a new database in the directory, and checks that they were.
Batch = Callable[[Path, Meter], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to use a peer."""

    batch: Batch
    # Steps come in multiples of this: the length of the chain of one run.
    unit: int = 1
    # Shown, but never chosen: not something that the peer's users have.
    only_for_comparison: bool = False


def main(peer: str, settings: Mapping[str, Setting], *, durability: str, notes: str) -> None:
    """Measure the settings on the directory given on the command line, and print one JSON line for the fastest."""
    parser = argparse.ArgumentParser(description=f"Measure {peer}: steps per second with steps that do nothing.")
    parser.add_argument("directory", type=Path, help="a directory on the disk to measure")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each of the fastest settings is measured")
    options = parser.parse_args()
    faulthandler.dump_traceback_later(HARD_LIMIT_SECONDS, exit=True)
    options.directory.mkdir(parents=True, exist_ok=True)

    probes = {name: _probe(setting, options.directory) for name, setting in settings.items()}
    eligible = [name for name in settings if not settings[name].only_for_comparison]
    finalists = sorted(eligible, key=lambda name: probes[name].steps_per_s)[-FINALISTS:]
    finals = {
        name: _run(settings[name], options.directory, int(probes[name].steps_per_s * options.seconds))
        for name in finalists
    }
    best, timing = max(finals.items(), key=lambda item: item[1].steps_per_s)

    result = {
        "peer": peer,
        "version": version(peer),
        "python": platform.python_version(),
        "steps": timing.steps,
        "seconds": round(timing.seconds, 3),
        "steps_per_s": round(timing.steps_per_s, 1),
        "durability": durability,
        "setting": best,
        "settings": {name: round(each.steps_per_s, 1) for name, each in (probes | finals).items()},
        "notes": notes,
    }
    print(json.dumps(result), flush=True)
    faulthandler.cancel_dump_traceback_later()


def _probe(setting: Setting, directory: Path) -> Timing:
    """Run a batch of about PROBE_SECONDS, sized by a small one."""
    first = _run(setting, directory, FIRST_BATCH_STEPS)
    return _run(setting, directory, int(first.steps_per_s * PROBE_SECONDS))


def _run(setting: Setting, directory: Path, steps: int) -> Timing:
    meter = Meter(max(2, -(-steps // setting.unit)) * setting.unit)
    with tempfile.TemporaryDirectory(prefix="peer-", dir=directory) as place:
        setting.batch(Path(place), meter)
    return meter.timing()


def require_wal_and_full_fsync(database: Path) -> None:
    """Raise unless a plain connection of this Python to the file is in WAL mode and fsyncs each commit.

    For peers that leave `synchronous` as the SQLite library has it: what a default connection of the same library says
    about the same file is what the peer's connections have.
    """
    connection = sqlite3.connect(database)
    try:
        (journal_mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    finally:
        connection.close()
    if (journal_mode, synchronous) != ("wal", 2):
        raise RuntimeError(f"not durable: journal_mode={journal_mode}, synchronous={synchronous}")


def count(database: Path, query: str) -> int:
    """Answer a counting query from the peer's own database."""
    connection = sqlite3.connect(database)
    try:
        (number,) = connection.execute(query).fetchone()
    finally:
        connection.close()
    return int(number)
