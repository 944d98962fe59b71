"""The processes of the laboratory: a runner and a hook that write the log, a worker, a client.

Run as ``python -m tests.faults.lab worker|client STORE LOG ...``. A run says in its header ``plan`` what each of its
steps does; the result is the trail of the steps, so that one left out or done twice in the stored run shows in it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from taquba_workflow_sync import (
    Cancel,
    Continue,
    ContinueAfter,
    Fail,
    Queue,
    QueueConfig,
    RunOutcome,
    RunSpec,
    Step,
    StepError,
    StepOutcome,
    StorageError,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.clock import Clock
from taquba_workflow_sync.failpoints import Failpoint
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.embedded.checkpoint import CHECKPOINT_BYTES
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.store import Durability, OpenOptions, Store
from taquba_workflow_sync.workflow.outcomes import GoesOn
from tests.faults.checker import digest
from tests.faults.journal import Journal
from tests.processes.harness import say, say_when_ready
from tests.support import PATIENCE

#: What a step of a plan may do; the last word of each is as likely as the first.
WORDS = ("go", "go", "go", "go", "nap:0.01", "nap:0.05", "later:0.05", "raise")
ENDINGS = ("go", "go", "go", "go", "fail", "dead", "cancel")


def make_plan(chance: random.Random, *, longest: int = 6) -> str:
    """Return a random plan."""
    return " ".join([*(chance.choice(WORDS) for _ in range(chance.randrange(longest))), chance.choice(ENDINGS)])


class LabRunner:
    """Does what the plan says and notes it.

    ``go``: nothing; ``nap:S``; ``later:S``: the next step comes S seconds later; ``raise``: a transient error at the
    first attempt; ``fail``, ``dead``, ``cancel``: the run ends so; ``linger``: the first attempt waits for its
    token; ``give-up``: the process's first such step does, and then cancels its run.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._has_given_up = False

    def run_step(self, step: Step) -> StepOutcome:
        me = {"run": step.run_id, "job": step.job_id, "step": step.step_number, "attempt": step.attempts}
        self._journal.note("begin", **me, max=step.max_attempts)
        ended = "raise"
        try:
            outcome = self._do(step)
            ended = "continue" if isinstance(outcome, GoesOn) else type(outcome).__name__.lower()
            return outcome
        except StepError:
            ended = "dead"
            raise
        finally:
            self._journal.note("end", **me, outcome=ended, is_set=step.cancel_token.is_set())

    def _do(self, step: Step) -> StepOutcome:
        plan = step.headers["plan"].split()
        word, _, number = plan[step.step_number].partition(":")
        trail = (step.payload.decode() + f" {step.step_number}").strip().encode()
        match word:
            case "nap":
                time.sleep(float(number))
            case "raise" if step.attempts == 1:
                raise RuntimeError("as planned")
            case "linger" if step.attempts == 1:
                step.cancel_token.wait(2 * PATIENCE)
            case "give-up" if not self._has_given_up:
                self._has_given_up = step.cancel_token.wait(2 * PATIENCE)
                return Cancel("told to stop")
            case "fail":
                return Fail("as planned")
            case "dead":
                raise StepError.permanent("as planned")
            case "cancel":
                return Cancel("as planned")
        if step.step_number + 1 == len(plan):
            return Succeed(trail)
        return ContinueAfter(trail, float(number)) if word == "later" else Continue(trail)


def hook_of(journal: Journal) -> Callable[[RunOutcome], None]:
    """Return a hook that notes each outcome."""

    def tell(outcome: RunOutcome) -> None:
        journal.note(
            "hook",
            run=outcome.run_id,
            job=outcome.job_id,
            termination=outcome.termination,
            status=outcome.status,
            digest=digest(outcome.result, outcome.error),
        )

    return tell


def open_queue(
    root: Path | str,
    *,
    failpoint: Failpoint | None = None,
    checkpoint_bytes: int = CHECKPOINT_BYTES,
    durability: str = "full",
    clock: Clock | None = None,
    **config: object,
) -> Queue:
    """Open a store as ``Queue.open`` does, with what only a test may choose."""
    is_url = "://" in str(root)
    address = str(root) if is_url else os.path.abspath(root)
    options = OpenOptions(durability=Durability(durability), clock=clock, failpoint=failpoint)
    settings = {"retry_backoff_base": 0.0, "keep_done_jobs": 86_400.0} | config
    return Queue(
        QueueHandle(
            _open_server_store(address, options)
            if is_url
            else EmbeddedStore(Path(address), options, checkpoint_bytes=checkpoint_bytes),
            default_config=QueueConfig(**settings),  # type: ignore[arg-type]
            queue_configs={},
            max_payload_bytes=64 << 20,
            address=address,
            failpoint=failpoint,
        )
    )


def _open_server_store(url: str, options: OpenOptions) -> Store:
    from taquba_workflow_sync.storage.postgres.store import open_store

    return open_store(url, options)


def register_hook(queue: Queue, journal: Journal) -> None:
    """Have endings told of from now on: a run that ends before any hook is registered has none to tell."""
    WorkflowRuntime(queue, LabRunner(journal), hook_of(journal)).submit_many([])


def submit(client: WorkflowClient, journal: Journal, run_id: str, plan: str, max_attempts: int = 10) -> str | None:
    """Submit one run and note what became of it; its job's id, or None where that is unknown."""
    journal.note("submitting", run=run_id, plan=plan)
    try:
        handle = client.submit(RunSpec(run_id=run_id, headers={"plan": plan}, max_attempts_per_step=max_attempts))
    except StorageError as error:
        journal.note("unknown", run=run_id, error=str(error))
        return None
    journal.note("acknowledged", run=run_id, job=handle.first_job_id)
    return handle.first_job_id


def work(options: argparse.Namespace) -> None:
    """Run what there is until SIGTERM."""
    journal = Journal(options.log)
    with open_queue(
        options.store,
        checkpoint_bytes=options.checkpoint,
        durability=options.durability,
        lease_duration=options.lease,
    ) as queue:
        runtime = WorkflowRuntime(
            queue,
            LabRunner(journal),
            hook_of(journal),
            max_concurrent_steps=options.concurrency,
            poll_interval=options.poll,
        )
        threading.Thread(target=say_when_ready, daemon=True).start()
        runtime.run(handle_signals=True)


def ask(options: argparse.Namespace) -> None:
    """Submit random runs, cancel and retry some, until SIGTERM; ``--pause`` seconds between two calls."""
    journal = Journal(options.log)
    chance = random.Random(options.seed)
    told_to_end: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told_to_end.append(number))
    jobs: list[tuple[str, str | None]] = []
    with open_queue(options.store, checkpoint_bytes=options.checkpoint, durability=options.durability) as queue:
        client = WorkflowClient(queue)
        say("ready")
        number = 0
        while not told_to_end:
            number += 1
            run_id = f"{options.name}-{os.getpid()}-{number}"
            jobs.append((run_id, submit(client, journal, run_id, make_plan(chance))))
            if chance.random() < options.meddling:
                _meddle(client, journal, *chance.choice(jobs[-200:]), chance)
            time.sleep(options.pause)


def _meddle(client: WorkflowClient, journal: Journal, run_id: str, job: str | None, chance: random.Random) -> None:
    try:
        if chance.random() < 0.5:
            journal.note("cancelling", run=run_id)
            journal.note("cancelled", run=run_id, found=client.cancel(run_id))
        elif job is not None:
            journal.note("retrying", run=run_id, job=job)
            client.retry(run_id)
            journal.note("retried", run=run_id, job=job)
    except Exception as error:  # what it finds may not be retried; a fault of the store shows in the checker
        journal.note("refused", run=run_id, error=f"{type(error).__name__}: {error}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["worker", "client"])
    parser.add_argument("store")
    parser.add_argument("log", type=Path)
    parser.add_argument("--durability", default="full")
    parser.add_argument("--checkpoint", type=int, default=CHECKPOINT_BYTES)
    parser.add_argument("--lease", type=float, default=30.0)
    parser.add_argument("--poll", type=float, default=0.25)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="run")
    parser.add_argument("--pause", type=float, default=0.02)
    parser.add_argument("--meddling", type=float, default=0.2, help="how often a call is followed by a cancel or retry")
    parser.add_argument("--ahead", type=float, default=0.0, help="how far this process's clock is ahead, in seconds")
    options = parser.parse_args(sys.argv[1:])
    if options.ahead:
        real = time.time
        time.time = lambda: real() + options.ahead
    (work if options.role == "worker" else ask)(options)


if __name__ == "__main__":
    main()
