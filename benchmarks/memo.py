"""Notes per second: what a step writes into its memo, one by one, each durable on return."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable

from benchmarks.figures import Bench, Section
from benchmarks.machine import syncs_per_second
from taquba_workflow_sync import Memo, Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowRuntime

VALUE = b"what a call of a model returned, in short"
#: A step notes this many, below the most that a memo may have.
NOTES = 2_000
THREADS = 4
LIMIT_SECONDS = 120.0


def measure(bench: Bench) -> list[Section]:
    section = Section(
        "Memos",
        f"A step notes {NOTES:,} values of {len(VALUE)} bytes one by one, fsync per commit. To be compared with the"
        " checkpoints of dura, below, each one INSERT. Compared here with how often a second this disk finishes a bare"
        " fdatasync of 4 KiB.",
    )
    cases: list[tuple[str, str, Callable[[Bench], float]]] = [
        ("memo.1", "one step, one after the other", lambda bench: _rate(bench, steps=1, threads=1)),
        ("memo.threads", f"one step, {THREADS} threads", lambda bench: _rate(bench, steps=1, threads=THREADS)),
        ("memo.4", f"{THREADS} steps at once", lambda bench: _rate(bench, steps=THREADS, threads=1)),
    ]
    rates: dict[str, list[float]] = {key: [] for key, *_ in cases}
    syncs: list[float] = []
    for _ in range(bench.scale.rounds):
        for key, _, rate in cases:
            syncs.append(syncs_per_second(bench.place))
            rates[key].append(rate(bench))
    bare = statistics.median(syncs)
    for key, what, _ in cases:
        section.add(key, what, rates[key], "notes/s", statistics.median(rates[key]) / bare, "bare fdatasync")
    return [section]


def _rate(bench: Bench, *, steps: int, threads: int) -> float:
    """Return notes per second of all steps together, from the first one's beginning to the last one's end."""
    begun: list[float] = []
    ended: list[float] = []

    def note(memo: Memo, thread: int) -> None:
        for number in range(NOTES // threads):
            memo.put(f"{thread}-{number}", VALUE)

    def run_step(step: Step) -> StepOutcome:
        begun.append(time.perf_counter())
        memo = step.memo
        others = [threading.Thread(target=note, args=(memo, number)) for number in range(1, threads)]
        for other in others:
            other.start()
        note(memo, 0)
        for other in others:
            other.join()
        ended.append(time.perf_counter())
        return Succeed(b"%d" % len(memo.keys()))

    with tempfile.TemporaryDirectory(prefix="memo-", dir=bench.place) as store, Queue.open(store) as queue:
        runtime = WorkflowRuntime(queue, run_step, max_concurrent_steps=steps)
        handles = runtime.submit_many([RunSpec() for _ in range(steps)])
        with runtime:
            noted = [int(handle.result(LIMIT_SECONDS)) for handle in handles]
    if noted != [NOTES] * steps:
        raise RuntimeError(f"the steps noted {noted}, not {NOTES} each")
    return NOTES * steps / (max(ended) - min(begun))
