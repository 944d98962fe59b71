"""What one primary carries, and what it waits for: more processes, no sync, a slower link."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from benchmarks.figures import Bench, Section
from benchmarks.postgres.costs import cpu_of
from benchmarks.postgres.relay import delayed, round_trip
from benchmarks.postgres.server import database
from benchmarks.postgres.steps import rate_of_processes, run_steps
from tests.postgres import Server

PROCESSES = (1, 2, 4, 8)
WORKERS_EACH = 16
SHARDS = 4
DELAY_SECONDS = 0.0005
_GUESS = {1: 150, 16: 1_000, 64: 2_000}
_EVERY_SECONDS = 0.01
# Of the sessions that write, what each does: only one of them at a time has the store's lock.
_HOLDER = ("the worker", "the CPU", "the log")
_NO_HOLDER = ("between two", "in line")
_LOOK = """SELECT CASE WHEN state = 'idle' THEN 'between two' WHEN wait_event = 'advisory' THEN 'in line'
    WHEN wait_event_type = 'Client' OR state LIKE 'idle in%' THEN 'the worker'
    WHEN wait_event IN ('WALSync', 'WALWrite') THEN 'the log'
    WHEN wait_event IS NULL THEN 'the CPU' ELSE wait_event END
    FROM pg_stat_activity WHERE application_name = 'taquba writer' AND datname = 'saturation'"""


def measure(bench: Bench, server: Server) -> list[Section]:
    return [_processes(bench, server), _stores(bench, server), _link(bench, server)]


class _Watch:
    """Looks at the sessions that write, and at what CPU and log they need, for a window of time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.looks: Counter[str] = Counter()
        self.server_cores = self.all_cores = self.mib_per_s = 0.0

    def __call__(self, began: float, over: float) -> None:
        time.sleep(max(0.0, began - time.monotonic()))
        with psycopg.connect(self._server.loopback_url, autocommit=True) as connection:
            before = self._used(connection)
            while time.monotonic() < over:
                self.looks.update(row[0] for row in connection.execute(_LOOK))
                time.sleep(_EVERY_SECONDS)
            used = [now - then for now, then in zip(self._used(connection), before, strict=True)]
        took = used[0]
        self.server_cores, self.all_cores, self.mib_per_s = (each / took for each in used[1:])

    def _used(self, connection: psycopg.Connection[Any]) -> list[float]:
        row = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') / 1048576").fetchone()
        assert row is not None
        return [time.monotonic(), cpu_of(self._server), _machine_seconds(), float(row[0])]


def _processes(bench: Bench, server: Server) -> Section:
    section = Section(
        "More processes",
        f"Processes of {WORKERS_EACH} workers each on one queue of runs that never end, all on this machine. Whoever"
        f" has the store's lock was looked at every {_EVERY_SECONDS * 1000:.0f} ms: it uses the CPU or waits for it, or"
        " it waits for its worker, that is for the next message of a process that has to compute it and have it"
        " carried, or for the log to be written; shares are of all looks at holders. CPU is in cores: of the server's"
        " processes, and of everything on the machine.",
    )
    for durability in ("full", "relaxed"):
        for processes in PROCESSES:
            watch = _Watch(server)
            with database(server, "saturation") as url:
                rates = rate_of_processes([url] * processes, WORKERS_EACH, bench.scale.seconds, durability, watch)
            what = f"{processes} process{'es' if processes > 1 else ''}"
            what += "" if durability == "full" else ", without waiting for the disk"
            key = f"pg.many.{durability}.{processes}"
            section.add(key, what, [sum(rates)], "steps/s")
            section.add(f"{key}.server", f"{what}: CPU of the server", [watch.server_cores], "cores")
            section.add(f"{key}.machine", f"{what}: CPU of the machine", [watch.all_cores], "cores")
            section.add(f"{key}.wal", f"{what}: WAL", [watch.mib_per_s], "MiB/s")
            held = {name: many for name, many in watch.looks.items() if name not in _NO_HOLDER}
            for name in _HOLDER:
                share = 100 * held.get(name, 0) / max(sum(held.values()), 1)
                section.add(f"{key}.{name}", f"{what}: the lock's holder waits for {name}", [share], "%")
    return section


def _stores(bench: Bench, server: Server) -> Section:
    section = Section(
        "Several stores",
        f"{SHARDS} processes of {WORKERS_EACH} workers, by turns on one queue of one store, and each on a store of its"
        " own, a schema of the same database; runs never end. The ratio is to the one store.",
    )
    one_store, many = [], []
    for _ in range(bench.scale.rounds):
        for found, names in ((one_store, ["s"] * SHARDS), (many, [f"s{number}" for number in range(SHARDS)])):
            with database(server, "stores") as url:
                urls = [f"{url}?schema={name}" for name in names]
                found.append(sum(rate_of_processes(urls, WORKERS_EACH, bench.scale.seconds)))
    section.add("pg.stores.1", "one store", one_store, "steps/s")
    ratio = statistics.median(many) / statistics.median(one_store)
    section.add(f"pg.stores.{SHARDS}", f"{SHARDS} stores", many, "steps/s", ratio, "the one store")
    return section


def _link(bench: Bench, server: Server) -> Section:
    section = Section(
        "A slower link",
        "One process, by turns over the loopback interface and over a relay that holds every message back, either way,"
        " as a network between two machines does. The round trip is that of SELECT 1. The ratio is to the direct way.",
    )
    trips: dict[str, list[float]] = {"direct": [], "relayed": []}
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(bench.scale.rounds):
        for workers, guess in _GUESS.items():
            for way in trips:
                with database(server, "link") as url, _by(way, url) as address:
                    trips[way].append(round_trip(address))
                    steps = int(guess * bench.scale.seconds)
                    rates.setdefault((way, workers), []).append(run_steps(address, steps, workers).steps_per_s)
    for way, took in trips.items():
        section.add(f"pg.link.{way}", f"round trip, {way}", took, "ms")
    for workers in _GUESS:
        direct = statistics.median(rates["direct", workers])
        for way in trips:
            found = rates[way, workers]
            ratio, against = (None, "") if way == "direct" else (statistics.median(found) / direct, "the direct way")
            what = f"{workers} worker{'s' if workers > 1 else ''}, {way}"
            section.add(f"pg.link.{way}.{workers}", what, found, "steps/s", ratio, against)
    return section


@contextmanager
def _by(way: str, url: str) -> Iterator[str]:
    if way == "direct":
        yield url
        return
    with delayed(url, DELAY_SECONDS) as address:
        yield address


def _machine_seconds() -> float:
    """Return the seconds of CPU that this machine has spent on anybody, since it began."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / 100
