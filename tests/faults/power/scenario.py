"""One process of the recorded scenario: submits from several threads, runs steps, tells a hook, cancels, retries.

Run as ``python -m tests.faults.power.scenario STORE LOG ...``. Everything that it notes in the log it also marks in the
record, so that each acknowledgement has its place among the writes and syncs.
"""

from __future__ import annotations

import argparse
import json
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from taquba_workflow_sync import InvalidStateError, RunNotFoundError, RunSpec, WorkflowRuntime
from taquba_workflow_sync.storage.embedded import connections, filesystem, lifecycle, opening
from taquba_workflow_sync.storage.embedded.commit import Transactor
from taquba_workflow_sync.storage.relational.group_commit import GroupCommit
from taquba_workflow_sync.storage.relational.pending import PendingCall
from tests.faults.interpose import mark
from tests.faults.journal import Journal
from tests.faults.lab import LabRunner, hook_of, make_plan, open_queue
from tests.support import PATIENCE


class MarkingJournal(Journal):
    """A log whose events are marks in the record, too."""

    def note(self, event: str, **fields: Any) -> None:
        super().note(event, **fields)
        mark(json.dumps({"event": event, **fields}))


def spec_of(name: str, plan: str, chance: random.Random) -> RunSpec:
    """A run of the laboratory; now and then with headers so long that they get a row of their own."""
    headers = {"plan": plan}
    if chance.random() < 0.2:
        headers["pad"] = "x" * chance.choice((2_000, 5_000, 20_000))
    return RunSpec(run_id=name, headers=headers, max_attempts_per_step=10)


def submit(runtime: WorkflowRuntime, journal: Journal, specs: list[RunSpec]) -> list[str]:
    """Submit runs in one commit; return their jobs."""
    for spec in specs:
        journal.note("submitting", run=spec.run_id, plan=spec.headers["plan"], together=len(specs))
    handles = runtime.submit_many(specs)
    for handle in handles:
        journal.note("acknowledged", run=handle.run_id, job=handle.first_job_id)
    return [handle.first_job_id for handle in handles]


def meddle(runtime: WorkflowRuntime, journal: Journal, run_id: str, job: str, chance: random.Random) -> None:
    """Cancel or retry a run."""
    if chance.random() < 0.6:
        journal.note("cancelling", run=run_id)
        journal.note("cancelled", run=run_id, job=job, found=runtime.cancel(run_id))
    else:
        journal.note("retrying", run=run_id, job=job)
        with suppress(InvalidStateError, RunNotFoundError):
            runtime.retry(run_id)
            journal.note("retried", run=run_id, job=job)


def client(runtime: WorkflowRuntime, journal: Journal, name: str, count: int, chance: random.Random) -> None:
    jobs: list[tuple[str, str]] = []
    for number in range(count):
        together = chance.choice((1, 1, 1, 1, 3))
        names = [f"{name}-{number}-{index}" for index in range(together)]
        specs = [spec_of(each, make_plan(chance, longest=5), chance) for each in names]
        jobs += zip(names, submit(runtime, journal, specs), strict=True)
        if chance.random() < 0.3:
            meddle(runtime, journal, *chance.choice(jobs), chance)
        if chance.random() < 0.3:
            time.sleep(0.01)  # so that not all commits are the batches of a crowd


def run(options: argparse.Namespace) -> None:
    journal = MarkingJournal(options.log)
    chance = random.Random(f"{options.seed}-{options.name}")
    journal.note("opening")
    with open_queue(
        options.store, durability=options.durability, checkpoint_bytes=options.checkpoint, lease_duration=0.5
    ) as queue:
        journal.note("opened")
        runtime = WorkflowRuntime(queue, LabRunner(journal), hook_of(journal), max_concurrent_steps=4)
        with runtime:
            threads = [
                threading.Thread(
                    target=client,
                    args=(runtime, journal, f"{options.name}-{index}", options.runs, random.Random(chance.random())),
                )
                for index in range(options.threads)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            deadline = time.monotonic() + PATIENCE
            while any(each.pending + each.scheduled + each.claimed for each in queue.handle.store.counts().values()):
                assert time.monotonic() < deadline, f"never idle: {queue.handle.store.counts()}"
                time.sleep(0.01)
        journal.note("closing")
    journal.note("closed")


# -- lies: what the simulation must find out ---------------------------------------------------------------------------


def never_sync() -> None:
    """Have every commit and checkpoint say that it synced, and not do it: ``synchronous=OFF``."""
    connections._FULL = connections._NORMAL = 0  # type: ignore[misc]


def forget_directories() -> None:
    """Make directories without syncing their parents."""
    filesystem.sync_directory = opening.sync_directory = lifecycle.sync_directory = lambda path: None


def answer_early() -> None:
    """Answer the callers of a batch before its COMMIT."""
    commit: Callable[..., None] = GroupCommit._commit
    fill: Callable[..., None] = Transactor._fill
    finish: Callable[[PendingCall], None] = PendingCall.finish
    calls: list[PendingCall] = []  # of the one thread that commits

    def note_calls(self: GroupCommit, batch: Any, gives_way: Any) -> None:
        calls[:] = batch
        commit(self, batch, gives_way)

    def answer_before_the_commit(self: Transactor, connection: Any, tx: Any, batch: Any, bulk: Any) -> None:
        write_counters = tx.finish

        def finish_and_answer() -> None:
            write_counters()
            for call in calls:
                call.finish()
            time.sleep(0.002)

        tx.finish = finish_and_answer
        fill(self, connection, tx, batch, bulk)

    def finish_once(self: PendingCall) -> None:
        if not self.is_done:
            finish(self)

    GroupCommit._commit = note_calls  # type: ignore[method-assign]
    Transactor._fill = answer_before_the_commit  # type: ignore[method-assign]
    PendingCall.finish = finish_once  # type: ignore[method-assign]


LIES: dict[str, Callable[[], None]] = {
    "never-sync": never_sync,
    "forget-directories": forget_directories,
    "answer-early": answer_early,
}


def arguments() -> argparse.Namespace:
    """Return what such a process is told; lies take effect."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--name", default="a")
    parser.add_argument("--durability", default="full")
    parser.add_argument("--checkpoint", type=int, default=1 << 22)
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lie", choices=LIES)
    options = parser.parse_args()
    if options.lie:
        LIES[options.lie]()
    return options


if __name__ == "__main__":
    run(arguments())
