"""Processes that ask for much at once; run as ``python -m tests.faults.load.crowd STORE LOG SCENARIO ...``."""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from taquba_workflow_sync import (
    Continue,
    PayloadTooLargeError,
    Queue,
    QueueConfig,
    RunSpec,
    Step,
    StepOutcome,
    StorageError,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)
from tests.faults.journal import Journal
from tests.faults.load.meter import Meter
from tests.processes.harness import say
from tests.support import PATIENCE, wait_until

CROWD = 1_000
DESCRIPTORS = 1_024
LARGEST = 64 << 20
SMALL_WAL = 8 << 20  # twice the size from which on it is checkpointed

#: What a run of large payloads does, by the name it has.
LARGE_RUNS = ("through", "next-too-large", "result-too-large")


def descriptors() -> int:
    """Return how many are open."""
    return len(os.listdir("/proc/self/fd"))


# -- a thousand threads ------------------------------------------------------------------------------------------------


def _submit_at_once(client: WorkflowClient, journal: Journal, name: str) -> Counter[str]:
    """Have as many threads submit a run each at the same moment; return what became of the calls."""
    together = threading.Barrier(CROWD)
    became: list[str] = []

    def submit(number: int) -> None:
        run = f"{name}-{number}"
        together.wait(PATIENCE)
        try:
            handle = client.submit(RunSpec(run_id=run, headers={"plan": "go"}))
        except Exception as error:
            became.append(type(error).__name__ if isinstance(error, StorageError) else repr(error))
            return
        journal.note("acknowledged", run=run, job=handle.first_job_id)
        became.append("acknowledged" if handle.status() else "not found")

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(CROWD)]
    for number, thread in enumerate(threads):
        journal.note("submitting", run=f"{name}-{number}", plan="go")
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(became)


def thousand(store: Path, journal: Journal) -> None:
    """Once with the usual number of descriptors, once with none to spare, once more with the usual number."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    Queue.open(store).close()
    before = descriptors()
    for name in ("plenty", "none", "again"):
        with Queue.open(store) as queue:  # no connection is open yet
            taken: list[int] = []
            while name == "none" and descriptors() < DESCRIPTORS:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            became = _submit_at_once(WorkflowClient(queue), journal, name)
            for descriptor in taken:
                os.close(descriptor)
            say(name, *(f"{what}={number}" for what, number in sorted(became.items())))
            say("open", descriptors() - before)
        say("left", descriptors() - before)


# -- writers -----------------------------------------------------------------------------------------------------------


def writer(store: Path, journal: Journal, meter: str, name: str) -> None:
    """Once told to, submit one by one as fast as it goes, and count."""
    counted = Meter(Path(meter))
    with Queue.open(store) as queue:
        client = WorkflowClient(queue)
        client.submit(run_id=f"{name}-first")
        say("ready")
        sys.stdin.readline()
        is_over = threading.Event()

        def listen() -> None:
            sys.stdin.readline()
            is_over.set()

        threading.Thread(target=listen, daemon=True).start()
        number = counted.acknowledged(0)
        while not is_over.is_set():
            client.submit(run_id=f"{name}-{number}")
            number += 1
            counted.acknowledge(0, number)
    say("over", number)


# -- large payloads ----------------------------------------------------------------------------------------------------


def block(seed: int, size: int = LARGEST) -> bytes:
    """Return bytes that differ by their seed, all along."""
    return hashlib.shake_128(b"%d" % seed).digest(1 << 16) * (size >> 16) + b"x" * (size % (1 << 16))


def _handle_large(step: Step) -> StepOutcome:
    if step.run_id not in LARGE_RUNS:
        return Succeed(step.payload)
    # Its payload is what the step before made, to the byte; a wrong one ends the run otherwise than wanted.
    if step.run_id == "through" and step.payload != block(step.step_number):
        raise RuntimeError("not what was passed on")
    if step.step_number == 0 and step.run_id == "next-too-large":
        return Continue(block(1, LARGEST + 1))
    if step.step_number == 0 and step.run_id == "result-too-large":
        return Succeed(block(1, LARGEST + 1))
    return Continue(block(1)) if step.step_number == 0 else Succeed(block(2))


def large(store: Path, journal: Journal) -> None:
    """The largest payload goes through a run's steps; anything larger is refused where it shows up."""
    config = QueueConfig(max_attempts=1)
    with Queue.open(store, default_config=config) as queue:
        with WorkflowRuntime(queue, _handle_large, max_concurrent_steps=1) as runtime:
            runtime.submit(run_id="small").wait(PATIENCE)
            wal = store / "db" / "cache.db-wal"
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            try:
                runtime.submit(run_id="input-too-large", input=block(0, LARGEST + 1))
            except PayloadTooLargeError as error:
                say("input-too-large", error)
            say("unsubmitted", runtime.status("input-too-large"))
            sizes, is_over = [0], threading.Event()

            def watch() -> None:
                # All along: the log is cut by the first commit after the checkpoint that empties it.
                while not is_over.wait(0.0005):
                    sizes.append(wal.stat().st_size)

            watching = threading.Thread(target=watch)
            watching.start()
            for run in LARGE_RUNS:
                runtime.submit(run_id=run, input=block(0) if run == "through" else b"")
            outcomes = {run: runtime.wait(run, timeout=4 * PATIENCE) for run in LARGE_RUNS}
            for run, outcome in outcomes.items():
                say(run, outcome.status, outcome.error or outcome.result == block(2))
            is_over.set()
            watching.join()
            say("wal-with-them", max(sizes))
            del outcome, outcomes
            # It starts over, and is cut, at the first commit after a checkpoint that no reader was in the way of.
            wait_until(
                lambda: runtime.submit().wait(PATIENCE) and wal.stat().st_size <= SMALL_WAL, "a log that is small again"
            )
            say("memory", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / LARGEST)


SCENARIOS: dict[str, Callable[..., None]] = {"thousand": thousand, "writer": writer, "large": large}


def main() -> None:
    store, log, scenario, *arguments = sys.argv[1:]
    SCENARIOS[scenario](Path(store), Journal(Path(log)), *arguments)


if __name__ == "__main__":
    main()
