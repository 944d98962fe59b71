"""What a store with a million jobs costs: a turn of the dispatcher, `stats`, and the memory of a worker."""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from benchmarks.figures import Bench, Section
from benchmarks.footprint import memory_over
from benchmarks.steps import PAYLOAD
from taquba_workflow_sync import Queue, RunSpec, WorkflowClient
from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.settlement import Advance, Release, Settlement
from taquba_workflow_sync.storage.port.wait import NEVER_MS
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.sql.names import JOB, QUEUE
from taquba_workflow_sync.storage.relational.sql.signals import WAIT

BATCH = 16
WARMUP_TURNS = 50
SUBMIT_BATCH = 10_000
LEASE_MS = 30_000

# Runs in line become runs that wait for a signal without a timeout; the store is not open meanwhile.
WAIT_FOR_SIGNAL = (
    f"""INSERT INTO {WAIT} (job, kind, name, crc) SELECT seq, 'signal', 'approved', 0 FROM {JOB}
    WHERE status = 'pending'""",
    f"""UPDATE {JOB} SET status = 'scheduled', due_ms = {NEVER_MS}, belongings = {int(Belonging.WAIT)}
    WHERE status = 'pending'""",
    f"UPDATE {QUEUE} SET scheduled = scheduled + pending, pending = 0",
)
# What waits for a signal becomes what has succeeded, a day ago and kept for a month.
FINISH = (
    f"""UPDATE {JOB} SET status = 'done', verdict = 'succeeded', termination = 1, attempts = 1, ordinal = 1,
    due_ms = NULL, belongings = 0,
    finished_ms = :now - 86400000, expires_ms = :now + 30 * 86400000, keep_done_ms = 31 * 86400000
    WHERE status = 'scheduled'""",
    f"DELETE FROM {WAIT}",
    f"UPDATE {QUEUE} SET done = done + scheduled, scheduled = 0",
)


def measure(bench: Bench) -> list[Section]:
    scale = bench.scale
    smallest = scale.waiting[0]
    section = Section(
        "Stores with many jobs",
        f"One turn is one transaction: {BATCH} steps advance and the next {BATCH} are claimed; the median of"
        f" {scale.turns}, also without fsync (durability relaxed), which otherwise hides what the turn itself costs."
        f" Waiting runs were put in by submit_many, {SUBMIT_BATCH:,} at a time; of them were made those that wait"
        f" for a signal, and of these finished ones, by SQL. The ratio is to a store with {smallest:,} waiting, turn by"
        f" turn beside it.",
    )
    with tempfile.TemporaryDirectory(prefix="claims-", dir=bench.place) as place:
        small, store = Path(place) / "small", Path(place) / "store"
        _fill(small, smallest)
        waiting = 0
        for size in scale.waiting:
            rate = _fill(store, size - waiting)
            waiting = size
            _add_turns(section, bench, (small, store), f"{size:,} waiting", f"{size}")
        section.add("fill", f"filling it, submit_many of {SUBMIT_BATCH:,}, without fsync", [rate], "runs/s")
        _add_stats(section, bench, store, waiting)
        section.figures += memory_over(store, waiting)
        rewrite(store, WAIT_FOR_SIGNAL)
        _fill(store, smallest)
        _expect(store, pending=smallest, scheduled=waiting)
        _add_turns(section, bench, (small, store), f"{waiting:,} waiting for a signal, {smallest:,} in line", "signal")
        rewrite(store, FINISH)
        _expect(store, pending=smallest, done=waiting)
        _add_turns(section, bench, (small, store), f"{waiting:,} finished, {smallest:,} in line", "finished")
    return [section]


def _fill(store: Path, runs: int) -> float:
    """Submit `runs` runs and return how many a second."""
    began = time.perf_counter()
    with Queue.open(store, durability="relaxed") as queue:
        client = WorkflowClient(queue)
        for start in range(0, runs, SUBMIT_BATCH):
            client.submit_many([RunSpec(input=PAYLOAD) for _ in range(min(SUBMIT_BATCH, runs - start))])
    return runs / (time.perf_counter() - began)


def _add_turns(section: Section, bench: Bench, stores: tuple[Path, Path], what: str, key: str) -> None:
    for durability, suffix in (("full", ""), ("relaxed", ", without fsync")):
        small, large = _turns(stores, durability, bench.scale.turns)
        # The median of each third: a figure that drifts while it is measured shows it.
        thirds = [statistics.median(large[start : start + len(large) // 3]) for start in _thirds(len(large))]
        ratio = statistics.median(large) / statistics.median(small)
        against = f"the small store, {statistics.median(small):.2f} ms"
        section.add(f"turn.{durability}.{key}", f"a turn, {what}{suffix}", thirds, "ms", ratio, against)


def _thirds(length: int) -> list[int]:
    return [0, length // 3, 2 * (length // 3)]


def _turns(stores: tuple[Path, Path], durability: str, turns: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each turn on either store, alternating: the disk drifts by more than is looked for."""
    with (
        Queue.open(stores[0], durability=durability) as small,
        Queue.open(stores[1], durability=durability) as large,
        closing(_turning(small)) as on_small,
        closing(_turning(large)) as on_large,
    ):
        took = [(next(on_small), next(on_large)) for _ in range(WARMUP_TURNS + turns)][WARMUP_TURNS:]
    return [each[0] for each in took], [each[1] for each in took]


def _turning(queue: Queue) -> Generator[float, None, None]:
    """Make one turn each time it is asked, and yield how many milliseconds that took."""
    # The dispatcher's own call, made by who leads the commits as it does: through the public ones each step would be a
    # call and a commit.
    engine = queue.handle.store
    request = ClaimRequest((LaneClaim(WorkflowClient(queue).queue_name, LEASE_MS),), BATCH)
    with engine.lead(lambda: None):
        _, held = engine.settle_and_claim((), [request])
        try:
            while True:
                settlements = [Settlement(row.id, row.token, Advance(PAYLOAD), True) for row in held]
                began = time.perf_counter()
                refusals, held = engine.settle_and_claim(settlements, [request])
                took = (time.perf_counter() - began) * 1000
                if len(held) != BATCH or any(refusals):
                    raise RuntimeError(f"a turn claimed {len(held)} and was refused {refusals}")
                yield took
        finally:
            engine.settle_and_claim([Settlement(row.id, row.token, Release()) for row in held], ())


def _add_stats(section: Section, bench: Bench, store: Path, waiting: int) -> None:
    took: list[float] = []
    with Queue.open(store) as queue:
        name = WorkflowClient(queue).queue_name
        for _ in range(max(5, bench.scale.slow_samples)):
            began = time.perf_counter()
            queue.stats(name)
            took.append((time.perf_counter() - began) * 1000)
    _expect(store, pending=waiting)
    section.add("stats", f"stats() of {waiting:,} waiting", took, "ms")


def rewrite(store: Path, statements: tuple[str, ...]) -> None:
    """Change rows as no call does, in one transaction; ``:now`` is the time in milliseconds."""
    # No handle of this process has the store open, so a connection of our own is as good as another program's.
    with closing(sqlite3.connect(store / "db" / "cache.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement, {"now": time.time_ns() // 1_000_000})
        connection.execute("COMMIT")


def _expect(store: Path, *, pending: int, scheduled: int = 0, done: int = 0) -> None:
    """Raise RuntimeError unless the store holds what is about to be measured."""
    with Queue.open(store) as queue:
        stats = queue.stats(WorkflowClient(queue).queue_name)
    found = (stats.pending, stats.scheduled, stats.done)
    if found != (pending, scheduled, done):
        raise RuntimeError(f"{found} in line, waiting and done, not {(pending, scheduled, done)}")
