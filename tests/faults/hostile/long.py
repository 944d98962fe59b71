"""The long form: damage in random rows, robbed busy workers, random arguments, fuzzed decoders, large headers."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from unittest import mock

from taquba_workflow_sync import PayloadTooLargeError, Queue
from taquba_workflow_sync.queue.dispatch import dispatcher
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, JOB, OVERFLOW, QUEUE
from tests.faults.figures import Figures
from tests.faults.hostile import decoders, robbed, stage
from tests.faults.hostile.damage import Vandal, columns_of, damages_of, schema_columns
from tests.faults.hostile.test_public_arguments import fuzz
from tests.faults.hostile.test_rows import PLACES

_DAMAGED_TOGETHER: Final = 24
#: What a busy worker whose store is gone may take until it has given up its last settlements, and ends.
_LONGEST_ROBBERY: Final = 60.0


def long_form(minutes: float, directory: Path) -> Figures:
    """Spend about so many minutes on hostile and broken input of every kind."""
    figures = Figures("hostile")
    seed = int.from_bytes(os.urandom(4), "big")
    figures.notes.append(f"hostile: seed {seed}")
    chance = random.Random(seed)
    parts: list[tuple[float, Callable[[Figures, Path, random.Random, Callable[[], float]], None]]] = [
        (0.40, _damaged_rows),
        (0.25, _robbed_workers),
        (0.15, _arguments),
        (0.15, _decoders),
        (0.05, _large_headers),
    ]
    for number, (share, part) in enumerate(parts):
        place = directory / str(number)
        place.mkdir(parents=True)
        end = time.monotonic() + minutes * 60 * share

        def left(end: float = end) -> float:
            return end - time.monotonic()

        part(figures, place, chance, left)
        shutil.rmtree(place, ignore_errors=True)
    return figures


@contextmanager
def _short_backoff() -> Iterator[None]:
    with mock.patch.object(dispatcher, "_LONGEST_BACKOFF", 0.05):
        yield


def _damaged_rows(figures: Figures, directory: Path, chance: random.Random, left: Callable[[], float]) -> None:
    """Damage one column of one row, any of them, and another one with every second store."""
    stage.make_template(directory / "template", _DAMAGED_TOGETHER)
    columns = schema_columns()
    figures.expect("every column is damaged", set(columns) == set(columns_of_template(directory)), "some are forgotten")
    number = 0
    while left() > 0:
        number += 1
        scene = stage.DamagedStore(directory / "template", directory / str(number))
        ids, vandal = scene.ids(), Vandal(scene.root)
        struck = [_strike(vandal, chance, columns) for _ in range(1 + number % 2)]
        names = [name for name in ids if not name.startswith("bare")]
        chosen = [names[chance.randrange(len(names))] for _ in range(8)]
        with _short_backoff():
            unreadable = any(where.startswith((f"{QUEUE}.name", f"{QUEUE}.id")) for where in struck)
            healthy = () if unreadable else stage.ALL_HEALTHY
            wrong = scene.check(names=chosen, ids=ids, healthy=healthy, bare=not unreadable)
        figures.faults["damaged rows"] += len(struck)
        figures.expect("a damaged row harms no other", not wrong, f"{struck}: {wrong}")
        shutil.rmtree(scene.root)


def columns_of_template(directory: Path) -> list[tuple[str, str]]:
    """Return the engine's columns as the template has them."""
    with closing(sqlite3.connect(directory / "template" / "db" / "cache.db")) as connection:
        return [each for each in columns_of(connection) if each[0] not in ("Cache", "Settings")]


def _strike(vandal: Vandal, chance: random.Random, columns: list[tuple[str, str]]) -> str:
    """Damage a random column of a random row that no healthy run needs; returns what was done."""
    table, column = chance.choice(columns if chance.random() < 0.4 else [c for c in columns if c[0] == JOB])
    damage = chance.choice(damages_of(column))
    # Never what a healthy run hangs on: a signal that is another's, or another deadline, is not the damage's fault.
    where, _ = chance.choice(PLACES.get(table, [("1", "")]))
    if table == JOB:
        others = "id <> 'bare-healthy' AND ifnull(run_id, '') NOT LIKE 'healthy%'"
        rows = vandal.run(f"SELECT seq FROM {JOB} WHERE {others}")
        where = f"seq = {chance.choice(rows)[0]}"
    elif table == ATTEMPT:
        jobs = vandal.run(f"SELECT DISTINCT job FROM {ATTEMPT}")
        where = f"job = {chance.choice(jobs)[0]}"
    elif table == OVERFLOW:
        keys = vandal.run(f"SELECT key FROM {OVERFLOW}")
        where = f"key = {chance.choice(keys)[0]}"
    vandal.spoil(table, column, where, [("x", [], damage)])
    return f"{table}.{column} = {damage.name} where {where}"


def _robbed_workers(figures: Figures, directory: Path, chance: random.Random, left: Callable[[], float]) -> None:
    """Rob workers of their files while they are busy, and kill some of them afterwards."""
    names = [name for name in robbed.ROBBERIES if "mode" not in name]
    number = 0
    while left() > (_LONGEST_ROBBERY if number else 0):
        name = chance.choice(names)
        busy, kill = chance.random() < 0.5 and left() > _LONGEST_ROBBERY, chance.random() < 0.3
        number += 1
        place = directory / str(number)
        place.mkdir()
        wrong = robbed.rob(name, place, busy=busy, kill=kill)
        figures.faults[name] += 1
        figures.expect("a robbed worker says so and ends", not wrong, f"{name}, busy {busy}, kill {kill}: {wrong}")
        shutil.rmtree(place)


def _arguments(figures: Figures, directory: Path, chance: random.Random, left: Callable[[], float]) -> None:
    calls, wrong = fuzz(directory, left, chance.randrange(2**32))
    figures.faults["calls with hostile arguments"] += calls
    # One of each kind: the same flaw is met by many calls.
    for each in {line.partition("(")[0] + line.rpartition(" raised ")[2][:40]: line for line in sorted(wrong)}.values():
        figures.expect("hostile arguments are taken or refused", False, each)
    figures.expect("hostile arguments are taken or refused", calls > 0, "no call was made")


def _decoders(figures: Figures, directory: Path, chance: random.Random, left: Callable[[], float]) -> None:
    """Let atheris look where it is installed; else change the corpus at random."""
    if importlib.util.find_spec("atheris") is None:
        figures.notes.append("hostile: atheris is not installed; the decoders were fuzzed by random changes alone")
        _change_the_corpus(figures, chance, left)
        return
    targets = list(decoders.TARGETS)
    chance.shuffle(targets)
    share = max(int(left() / len(targets)) - 1, 1)  # a second for its start
    for number, target in enumerate(targets):
        if number and left() < share:
            break
        place = directory / str(number)
        place.mkdir()
        words = [target, str(share), str(place), str(chance.randrange(1, 2**31))]
        ran = subprocess.run(
            [sys.executable, "-m", "tests.faults.hostile.fuzzing", *words],
            cwd=robbed.ROOT, capture_output=True, text=True, timeout=share + 120, check=False,
        )  # fmt: skip
        found = [line for line in ran.stdout.splitlines() if line.startswith("FOUND ")]
        units = [line.split()[-1] for line in ran.stderr.splitlines() if "number_of_executed_units" in line]
        figures.faults["inputs from atheris"] += sum(map(int, units))
        otherwise = found[0] if found else f"{target}: atheris ended with {ran.returncode}: {ran.stderr[-500:]}"
        figures.expect("decoders take any bytes", ran.returncode == 0 and not found, otherwise)


def _change_the_corpus(figures: Figures, chance: random.Random, left: Callable[[], float]) -> None:
    found: set[str] = set()
    while left() > 0:
        target = chance.choice(list(decoders.TARGETS))
        data = bytearray(chance.choice(decoders.CORPUS[target])[:300])
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 4))
        wrong = decoders.violation(target, bytes(data))
        figures.faults["random inputs of decoders"] += 1
        figures.checked["decoders take any bytes"] += 1
        kind = None if wrong is None else wrong.partition(" (from")[0][:60]
        if wrong is not None and kind not in found:
            found.add(str(kind))
            figures.violations.append(f"decoders take any bytes: {wrong}")


def _large_headers(figures: Figures, directory: Path, chance: random.Random, left: Callable[[], float]) -> None:
    """Refuse headers far beyond the limit again and again; what stays in memory afterwards does not grow."""
    large = ({"h": "x" * 10_000_000}, {str(number): "v" for number in range(100_000)})
    grown = 0
    rounds = 0
    with Queue.open(directory / "store", durability="relaxed") as queue:
        tracemalloc.start()
        try:
            before = None
            while rounds < 3 or (left() > 0 and rounds < 50):
                rounds += 1
                for headers in large:
                    try:
                        queue.enqueue("q", b"", headers=headers)
                        figures.expect("large headers are refused", False, "they were taken")
                    except PayloadTooLargeError:
                        figures.expect("large headers are refused", True, "")
                    figures.faults["large headers"] += 1
                now = tracemalloc.get_traced_memory()[0]
                before = now if before is None else before
                grown = now - before
        finally:
            tracemalloc.stop()
    figures.expect("large headers leave nothing behind", grown < 1 << 20, f"{grown} bytes after {rounds} rounds")
