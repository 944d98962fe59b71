"""Steps per second of this library: no-op, sleeping and CPU-bound steps, beside the floor."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from benchmarks.figures import Bench, Section
from benchmarks.floor import run_floor
from benchmarks.peers.measure import Meter, Timing
from taquba_workflow_sync import Continue, Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowClient, WorkflowRuntime

STEPS_PER_RUN = 10
WORKERS = (1, 4, 16, 64)
SLEEP_SECONDS = 0.005
CPU_SECONDS = 0.0005
SUBMIT_BATCH = 5_000
HOOK_LIMIT_SECONDS = 30.0
PAYLOAD = b"payload of a tiny step"

Work = Callable[[], None]


def measure(bench: Bench) -> list[Section]:
    return [_noop(bench), _working(bench)]


def run_steps(place: Path, steps: int, workers: int, work: Work | None = None, *, with_hook: bool = False) -> Timing:
    """Execute `steps` steps in a new store, in runs submitted before, and time all but the first fifth.

    It is the peers' clock that times them. Raises WorkIncompleteError if the store's own counts differ.
    """
    runs = max(1, round(steps / STEPS_PER_RUN))
    meter = Meter(runs * STEPS_PER_RUN)
    told: list[None] = []

    def run_step(step: Step) -> StepOutcome:
        if work is not None:
            work()
        meter.step()
        return Continue(PAYLOAD) if step.step_number < STEPS_PER_RUN - 1 else Succeed()

    hook = (lambda _outcome: told.append(None)) if with_hook else None
    with tempfile.TemporaryDirectory(prefix="steps-", dir=place) as store, Queue.open(store) as queue:
        runtime = WorkflowRuntime(queue, run_step, hook, max_concurrent_steps=workers)
        submit_runs(runtime, runs)
        with runtime:
            meter.wait()
            deadline = time.monotonic() + HOOK_LIMIT_SECONDS
            while with_hook and len(told) < runs and time.monotonic() < deadline:
                time.sleep(0.01)
        if with_hook and len(told) != runs:
            raise RuntimeError(f"{len(told)} of {runs} terminations were told to the hook")
        meter.expect(queue.stats(runtime.queue_name).done * STEPS_PER_RUN)
    return meter.timing()


def submit_runs(client: WorkflowClient, runs: int) -> None:
    """Submit `runs` runs without a name, thousands in a commit."""
    for start in range(0, runs, SUBMIT_BATCH):
        client.submit_many([RunSpec(input=PAYLOAD) for _ in range(min(SUBMIT_BATCH, runs - start))])


def _timed(bench: Bench, workers: int, work: Work | None = None, *, guess: float, with_hook: bool = False) -> float:
    """Return steps per second over about `scale.seconds`, sized by a probe a fifth as long."""
    probe = run_steps(bench.place, int(guess * bench.scale.seconds / 5), workers, work, with_hook=with_hook)
    steps = int(probe.steps_per_s * bench.scale.seconds)
    return run_steps(bench.place, steps, workers, work, with_hook=with_hook).steps_per_s


def _noop(bench: Bench) -> Section:
    section = Section(
        "Steps that do nothing",
        f"Runs of {STEPS_PER_RUN} steps, all submitted before, fsync per commit, one process. The floor is bare sqlite3"
        " making the same row changes, in batches of 1 for one worker and of 16 for more. Each figure stands between"
        " two measurements of its floor; the ratio is to their mean, the median of the rounds.",
    )
    cases = [("1 worker" if workers == 1 else f"{workers} workers", workers, False) for workers in WORKERS]
    cases.append(("16 workers and a terminal hook", 16, True))
    floors: dict[int, list[float]] = {1: [], 16: []}
    ours: list[list[float]] = [[] for _ in cases]
    ratios: list[list[float]] = [[] for _ in cases]
    for _ in range(bench.scale.rounds):
        batch, before = 0, 0.0
        for number, (_, workers, with_hook) in enumerate(cases):
            if batch != _batch_of(workers):
                batch = _batch_of(workers)
                before = run_floor(bench.place, bench.scale.seconds / 2, batch)
                floors[batch].append(before)
            ours[number].append(_timed(bench, workers, guess=2_000, with_hook=with_hook))
            after = run_floor(bench.place, bench.scale.seconds / 2, batch)
            floors[batch].append(after)
            ratios[number].append(ours[number][-1] / statistics.mean([before, after]))
            before = after
    for batch, rates in floors.items():
        section.add(f"floor.{batch}", f"the floor, in batches of {batch}", rates, "steps/s")
    for number, (what, workers, with_hook) in enumerate(cases):
        key = f"noop.{workers}{'.hook' if with_hook else ''}"
        against = f"the floor in batches of {_batch_of(workers)}"
        section.add(key, what, ours[number], "steps/s", statistics.median(ratios[number]), against)
    return section


def _batch_of(workers: int) -> int:
    return 1 if workers == 1 else 16


def _working(bench: Bench) -> Section:
    section = Section(
        "Steps that do something",
        f"As above, 16 workers. Ideal for sleeping steps is 16 workers / {SLEEP_SECONDS * 1000:.0f} ms; for CPU-bound"
        " ones the same computation in a bare loop on one thread, measured before and after.",
    )
    ideal = 16 / SLEEP_SECONDS
    rates = [_timed(bench, 16, lambda: time.sleep(SLEEP_SECONDS), guess=ideal * 0.7) for _ in range(bench.scale.rounds)]
    section.add(
        "sleep", "sleeping 5 ms", rates, "steps/s", statistics.median(rates) / ideal, f"the ideal, {ideal:,.0f}"
    )
    compute = _computation()
    pure = [_pure_rate(compute)]
    rates = []
    for _ in range(bench.scale.rounds):
        rates.append(_timed(bench, 16, compute, guess=pure[0] * 0.7))
        pure.append(_pure_rate(compute))
    shares = [rate / statistics.mean(around) for rate, around in zip(rates, pairwise(pure), strict=True)]
    against = f"pure computation, {statistics.median(pure):,.0f}"
    section.add("cpu", "computing 0.5 ms", rates, "steps/s", statistics.median(shares), against)
    return section


def _computation() -> Work:
    """Return a piece of plain Python that takes about CPU_SECONDS here and holds the GIL."""
    rounds = 1_000

    def compute() -> None:
        total = 0
        for number in range(rounds):
            total += number * number

    rounds = max(1, int(rounds * CPU_SECONDS * _pure_rate(compute)))
    return compute


def _pure_rate(compute: Work) -> float:
    """Return how often a second one thread with nothing else to do computes."""
    calls = 0
    began = time.perf_counter()
    while (took := time.perf_counter() - began) < 0.5:
        compute()
        calls += 1
    return calls / took
