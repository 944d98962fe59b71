"""Durable submits per second, and how fairly four processes share one store."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.children import Work, child
from benchmarks.figures import Bench, Section
from benchmarks.machine import syncs_per_second
from benchmarks.steps import PAYLOAD, submit_runs
from taquba_workflow_sync import Continue, Queue, RunSpec, Step, StepOutcome, WorkflowClient, WorkflowRuntime

BATCH = 1_000
PROCESSES = 4
ENDLESS_RUNS = 1_000


def measure(bench: Bench) -> list[Section]:
    return [_submitting(bench), _sharing(bench)]


def _submitting(bench: Bench) -> Section:
    section = Section(
        "Durable submits",
        "Each call returns after its commit is on the disk. Compared with how often a second this disk finishes a bare"
        " fdatasync of 4 KiB.",
    )
    cases = [
        ("submit.1", "one by one, 1 thread", 1, 1),
        ("submit.16", "one by one, 16 threads", 16, 1),
        ("submit.batch", f"submit_many of {BATCH:,}", 1, BATCH),
    ]
    rates: dict[str, list[float]] = {key: [] for key, *_ in cases}
    syncs: list[float] = []
    for _ in range(bench.scale.rounds):
        for key, _, threads, batch in cases:
            syncs.append(syncs_per_second(bench.place))
            with tempfile.TemporaryDirectory(prefix="submits-", dir=bench.place) as store, Queue.open(store) as queue:
                rates[key].append(_submit_rate(WorkflowClient(queue), threads, batch, bench.scale.seconds / 2))
    bare = section.add("fdatasync", "bare fdatasync", syncs, "/s")
    for key, what, *_ in cases:
        ratio = statistics.median(rates[key]) / bare.value
        section.add(key, what, rates[key], "runs/s", ratio, "bare fdatasync")
    return section


def _submit_rate(client: WorkflowClient, threads: int, batch: int, seconds: float) -> float:
    submitted = [0] * threads
    deadline = time.perf_counter() + seconds

    def submit(number: int) -> None:
        while time.perf_counter() < deadline:
            if batch == 1:
                client.submit(RunSpec(input=PAYLOAD))
            else:
                client.submit_many([RunSpec(input=PAYLOAD) for _ in range(batch)])
            submitted[number] += batch

    began = time.perf_counter()
    _in_threads(submit, threads)
    return sum(submitted) / (time.perf_counter() - began)


def _in_threads(work: Callable[[int], None], threads: int) -> None:
    started = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def _sharing(bench: Bench) -> Section:
    section = Section(
        "Four processes that write to one store",
        "All at once, for the same seconds, each fsync'ed. The ratio is the fastest to the slowest of them: 1 is fair."
        " Beside them, one such process alone.",
    )
    for key, what, work in (
        ("share.steps", "workers on one queue, 16 threads each, all together", _work_for_a_while),
        ("share.submits", "clients that submit one by one, all together", _submit_for_a_while),
    ):
        totals, spreads, alone = [], [], []
        for _ in range(bench.scale.rounds):
            alone += _share(bench, work, 1)
            rates = _share(bench, work, PROCESSES)
            totals.append(sum(rates))
            spreads.append(max(rates) / max(min(rates), 1e-9))
        worst = max(spreads)
        section.add(key, what, totals, "/s", worst, "the fastest to the slowest, worst round")
        ratio = statistics.median(totals) / statistics.median(alone)
        section.add(f"{key}.alone", f"{what.partition(',')[0]}: one process alone", alone, "/s", ratio, "all to one")
    return section


def _share(bench: Bench, work: Work, processes: int) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="share-", dir=bench.place) as place, ExitStack() as stack:
        store = Path(place)
        with Queue.open(store) as queue:
            submit_runs(WorkflowClient(queue), ENDLESS_RUNS)
        children = [stack.enter_context(child(work, store)) for _ in range(processes)]
        for each in children:
            each.hear()
        # Everyone counts in the same window, which begins once everyone has been told of it.
        window = (time.monotonic() + 1.0, time.monotonic() + 1.0 + bench.scale.seconds)
        for each in children:
            each.tell(window)
        return [each.hear() / bench.scale.seconds for each in children]


def _work_for_a_while(pipe: Connection, store: Path) -> None:
    ended: list[float] = []

    def run_step(_: Step) -> StepOutcome:
        ended.append(time.monotonic())
        return Continue(PAYLOAD)

    with Queue.open(store) as queue:
        pipe.send("ready")
        began, over = pipe.recv()
        with WorkflowRuntime(queue, run_step):
            time.sleep(max(0.0, over - time.monotonic()))
        pipe.send(sum(began <= at < over for at in ended))


def _submit_for_a_while(pipe: Connection, store: Path) -> None:
    with Queue.open(store) as queue:
        client = WorkflowClient(queue)
        pipe.send("ready")
        began, over = pipe.recv()
        submitted = 0
        while (now := time.monotonic()) < over:
            client.submit(RunSpec(input=PAYLOAD))
            submitted += now >= began
        pipe.send(submitted)
