"""Steps per second on one server: the floors, this engine, and what a user would pick instead, by turns."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.figures import Bench, Section
from benchmarks.machine import syncs_per_second
from benchmarks.peer_envs import ON_POSTGRES, PeerError, prepare, run_module
from benchmarks.postgres.floors import run_floor
from benchmarks.postgres.server import database
from benchmarks.postgres.steps import rate_of_processes, run_steps
from benchmarks.steps import STEPS_PER_RUN
from tests.postgres import Server

WORKERS = (1, 4, 16, 64)
PROCESSES, WORKERS_EACH = 4, 16
PROBE_SHARE = 0.2
FIRST_GUESS = 300
#: Of those peers whose work is lost with a worker that is killed.
NOT_DURABLE = frozenset({"celery"})

#: Above the hard limit that each script sets itself.
PEER_LIMIT_SECONDS = 120.0

Rates = dict[str, list[float]]


def measure(bench: Bench, server: Server, cache: Path, peers: bool, say: Callable[[str], None]) -> list[Section]:
    """Measure round by round; `cache` is where the peers' environments are kept."""
    pythons, notes = _environments(cache, say) if peers else ({}, {})
    rates: Rates = defaultdict(list)
    ratios: Rates = defaultdict(list)
    for number in range(bench.scale.rounds):
        say(f"round {number + 1} of {bench.scale.rounds}")
        rates["fdatasync"].append(syncs_per_second(bench.place))
        for workers in WORKERS:
            _add_floors(rates, bench, server, str(workers), workers, 1)
            with database(server, "ours") as url:
                guess = (rates[f"ours.{workers}"] or [FIRST_GUESS * min(workers, 8)])[-1]
                probe = run_steps(url, max(STEPS_PER_RUN * 4, int(guess * bench.scale.seconds * PROBE_SHARE)), workers)
            with database(server, "ours") as url:
                ours = run_steps(url, int(probe.steps_per_s * bench.scale.seconds), workers).steps_per_s
            rates[f"ours.{workers}"].append(ours)
            for kind in ("row", "set"):
                ratios[f"{kind}.{workers}"].append(ours / rates[f"{kind}.{workers}"][-1])
            for name, python in pythons.items():
                _add_peer(rates, notes, bench, server, name, python, workers)
                say(f"{workers} workers, {name}: {rates[f'{name}.{workers}'][-1:]}")
        _add_floors(rates, bench, server, "processes", WORKERS_EACH, PROCESSES)
        with database(server, "ours") as url:
            each = rate_of_processes([url] * PROCESSES, WORKERS_EACH, bench.scale.seconds)
        rates["ours.processes"].append(sum(each))
        rates["spread"].append(max(each) / max(min(each), 1e-9))
        for kind in ("row", "set"):
            ratios[f"{kind}.processes"].append(sum(each) / rates[f"{kind}.processes"][-1])
    return [_ours(bench, rates, ratios), *([_peers(rates, notes)] if peers else [])]


def _add_floors(rates: Rates, bench: Bench, server: Server, key: str, batch: int, processes: int) -> None:
    for kind, is_set_based in (("row", False), ("set", True)):
        with database(server, "floor") as url:
            seconds = bench.scale.seconds / 2
            rate = run_floor(url, is_set_based=is_set_based, batch=batch, seconds=seconds, processes=processes)
        rates[f"{kind}.{key}"].append(rate)


def _environments(cache: Path, say: Callable[[str], None]) -> tuple[dict[str, Path], dict[str, str]]:
    pythons, notes = {}, {}
    for name, peer in ON_POSTGRES.items():
        say(f"environment of {name}")
        try:
            pythons[name] = prepare(f"postgres-{name}", peer, cache)
        except (PeerError, OSError) as error:
            notes[name] = f"{name} could not be installed: {error}"
    return pythons, notes


def _add_peer(
    rates: Rates, notes: dict[str, str], bench: Bench, server: Server, name: str, python: Path, workers: int
) -> None:
    """Measure a peer with so many workers; of one that fails the page has what it said."""
    key = f"{name}.{workers}"
    guess = f"{rates[key][-1] if rates[key] else 0:.1f}"
    try:
        with database(server, "peer") as url:
            options = ["--workers", str(workers), "--seconds", str(bench.scale.seconds), "--rate", guess]
            result = json.loads(
                run_module(python, ON_POSTGRES[name].module, url, *options, limit=PEER_LIMIT_SECONDS).splitlines()[-1]
            )
        rates[key].append(float(result["steps_per_s"]))
        notes[name] = f"{name} {result['version']}, Python {result['python']}: {result['notes']}"
    except (PeerError, ValueError, IndexError) as error:
        notes[f"{name} with {workers}"] = f"{name} with {workers} workers could not be measured: {error}"


def _ours(bench: Bench, rates: Rates, ratios: Rates) -> Section:
    section = Section(
        "Steps that do nothing",
        f"Runs of {STEPS_PER_RUN} steps, all submitted before; everything over the loopback interface. A floor is bare"
        " psycopg making the row changes of a step's turn (advance what was claimed, write history, claim the next) in"
        " one pipeline and one commit, in batches of as many as there are workers, a connection for each process; by"
        " rows it has statements for each row, by sets for each batch. The several processes have runs that never end."
        " Ratios are of neighbours within a round, their median.",
    )
    section.add("pg.fdatasync", "bare fdatasync of 4 KiB, before each round", rates["fdatasync"], "/s")
    for key, what in _cases():
        section.add(f"pg.row.{key}", f"{what}: the floor, by rows", rates[f"row.{key}"], "steps/s")
        section.add(f"pg.set.{key}", f"{what}: the floor, by sets", rates[f"set.{key}"], "steps/s")
        by_rows = statistics.median(ratios[f"row.{key}"])
        against = f"the floor by sets ({by_rows:.2f} of that by rows)"
        section.add(
            f"pg.steps.{key}", what, rates[f"ours.{key}"], "steps/s", statistics.median(ratios[f"set.{key}"]), against
        )
    section.add("pg.spread", f"the fastest of the {PROCESSES} processes to the slowest", rates["spread"], "x")
    return section


def _cases() -> Iterator[tuple[str, str]]:
    for workers in WORKERS:
        yield str(workers), "1 worker" if workers == 1 else f"{workers} workers"
    yield "processes", f"{PROCESSES} processes of {WORKERS_EACH} workers"


def _peers(rates: Rates, notes: dict[str, str]) -> Section:
    section = Section(
        "What a user would pick instead",
        "The same server and settings, a database of its own for each measurement. The ratio is this library's median"
        " with as many workers to the peer's." + "".join(f"\n* {note}" for note in notes.values()),
    )
    for name in ON_POSTGRES:
        kind = "unsafe" if name in NOT_DURABLE else "durable"
        for workers in WORKERS:
            found = rates[f"{name}.{workers}"]
            if not found:
                continue
            ratio = statistics.median(rates[f"ours.{workers}"]) / statistics.median(found)
            what = f"{name}, {workers} worker{'s' if workers > 1 else ''}"
            section.add(f"pgpeer.{kind}.{workers}.{name}", what, found, "steps/s", ratio, "this library to it")
    return section
