"""What parked runs cost a turn of the dispatcher: 100,000 of 1,000 keys beside a store that has none."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from benchmarks.figures import Bench, Section
from benchmarks.steps import PAYLOAD
from taquba_workflow_sync import Queue, RunSpec, WorkflowClient
from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.settlement import Advance, Release, Settlement

KEYS = 1_000
PARKED = 100_000
IN_LINE = 1_000
BATCH = 16
WARMUP_TURNS = 50
SUBMIT_BATCH = 10_000
LEASE_MS = 30_000
#: What a turn beside the parked runs may cost, as a ratio.
MOST = 1.3


def measure(bench: Bench) -> list[Section]:
    section = Section(
        "Limits",
        f"One turn is one transaction: {BATCH} steps advance and the next {BATCH} are claimed; the median of"
        f" {bench.scale.turns}, without fsync (durability relaxed). {IN_LINE:,} runs without a key stand in line;"
        f" beside them {PARKED:,} runs of {KEYS:,} keys are parked. The ratio is to a store without them, turn by turn"
        f" beside it; at most {MOST} is the goal.",
    )
    with tempfile.TemporaryDirectory(prefix="limits-", dir=bench.place) as place:
        plain, parked = Path(place) / "plain", Path(place) / "parked"
        _fill(plain, 0)
        rate = _fill(parked, PARKED)
        for key, what, with_key in (("keyed", "of limited keys", True), ("plain", "without a key", False)):
            alone, beside = _turns((plain, parked), bench.scale.turns, with_key=with_key)
            against = f"without parked runs, {statistics.median(alone):.2f} ms"
            ratio = statistics.median(beside) / statistics.median(alone)
            section.add(f"limits.{key}", f"a turn of runs {what}", [statistics.median(beside)], "ms", ratio, against)
        section.add("limits.fill", f"submit_many of {SUBMIT_BATCH:,} runs of limited keys", [rate], "runs/s")
    return [section]


def _fill(store: Path, parked: int) -> float:
    """Put the runs in; returns how many of a key a second."""
    with Queue.open(store, durability="relaxed") as queue:
        client = WorkflowClient(queue)
        client.set_limit(key="key-*", concurrency=1)
        client.set_limit(key="busy-*", concurrency=4)
        # One of each key stands in line, far behind the others.
        client.submit_many(RunSpec(limit_key=f"key-{key}", priority=9_000) for key in range(KEYS if parked else 0))
        began = time.perf_counter()
        for start in range(0, parked, SUBMIT_BATCH):
            numbers = range(start, start + SUBMIT_BATCH)
            client.submit_many(
                RunSpec(input=PAYLOAD, limit_key=f"key-{number % KEYS}", priority=9_500) for number in numbers
            )
        took = time.perf_counter() - began
        client.submit_many(RunSpec(input=PAYLOAD) for _ in range(IN_LINE))
        client.submit_many(
            RunSpec(input=PAYLOAD, priority=1, limit_key=f"busy-{n % 8}", run_id=f"busy-{n}") for n in range(64)
        )
    return parked / took


def _turns(stores: tuple[Path, Path], turns: int, *, with_key: bool) -> tuple[list[float], list[float]]:
    """Take turns in both stores by turns, and return how long each took, in milliseconds."""
    took: tuple[list[float], list[float]] = ([], [])
    with closing(_loop(stores[0], with_key=with_key)) as one, closing(_loop(stores[1], with_key=with_key)) as two:
        for turn in range(WARMUP_TURNS + turns):
            for loop, times in zip((one, two), took, strict=True):
                spent = next(loop)
                if turn >= WARMUP_TURNS:
                    times.append(spent)
    return took


def _loop(store: Path, *, with_key: bool) -> Generator[float, None, None]:
    """Advance what is claimed and claim as much again; runs of keys go first, unless they are put aside."""
    with Queue.open(store, durability="relaxed") as queue:
        client = WorkflowClient(queue)
        lane = LaneClaim(client.queue_name, LEASE_MS)
        handle = queue.handle.store
        if not with_key:
            for number in range(64):
                client.cancel(f"busy-{number}")
        _, rows = handle.settle_and_claim((), [ClaimRequest((lane,), BATCH)])
        try:
            while True:
                ends = [Settlement(row.id, row.token, Advance(PAYLOAD), True) for row in rows]
                began = time.perf_counter()
                _, rows = handle.settle_and_claim(ends, [ClaimRequest((lane,), BATCH)])
                yield (time.perf_counter() - began) * 1000
        finally:
            handle.settle_and_claim([Settlement(row.id, row.token, Release()) for row in rows], ())
