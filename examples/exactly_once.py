"""Effects under kill -9: a counter in the store equals the number of steps that ended, however often the worker died.

    python examples/exactly_once.py
    python examples/exactly_once.py --kills 50 --runs 100

The program submits runs of ten steps each and starts itself as a worker, which it kills with SIGKILL at a random
instant, again and again; then a last worker finishes what is left. Each step stages effects: it adds one to a counter,
moves a token from one pocket to another with ``compare_put``, and enqueues a receipt. They are written in the commit
that ends the step, so each of them happened as often as a step ended: not once more for a step that ran twice, and not
once less for one whose worker died right after it. A line in a plain file, which each step writes as it begins, shows
that steps were begun more often than that.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

from taquba_workflow_sync import (
    AttemptOutcome,
    Continue,
    Queue,
    RunSpec,
    Step,
    StepOutcome,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)

STEPS = 10
WORK = 0.01  # seconds that a step takes
LONGEST_LIFE = 0.15  # seconds that a worker lives once it has begun


class Transfer:
    """Moves a token from a full pocket to an empty one, step by step, and counts."""

    def __init__(self, log: Path, game: str) -> None:
        self.log = log
        self.game = game

    def run_step(self, step: Step) -> StepOutcome:
        with self.log.open("a") as log:
            log.write(f"{step.run_id} {step.step_number}\n")
        time.sleep(WORK)

        effects = step.effects
        effects.add(f"{self.game}/steps", 1)
        effects.enqueue(f"receipts-{self.game}", f"{step.run_id} {step.step_number}".encode())
        # Read, compare, and exchange: whoever is second is refused, and its step runs again and reads anew.
        pocket = f"{self.game}/pocket/{step.step_number}"
        held = step.kv.get(pocket)
        effects.compare_put(pocket, held, b"%d" % (int(held or b"0") + 1))
        return Continue() if step.step_number < STEPS - 1 else Succeed()


def work(store: Path, game: str) -> None:
    """Run what there is to run; the first line tells that it has begun."""
    with Queue.open(store / "jobs") as queue:
        runtime = WorkflowRuntime(queue, Transfer(store / f"{game}.log", game), queue_name=game, max_concurrent_steps=4)
        print("working", flush=True)
        runtime.run_until_idle()


def start_worker(store: Path, game: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--store", str(store), "--worker", game]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "working\n"
    return worker


def kill_again_and_again(store: Path, game: str, kills: int) -> int:
    """Start workers and kill each at a random instant; return how many were still working."""
    killed = 0
    for _ in range(kills):
        with start_worker(store, game) as worker:
            time.sleep(random.uniform(0, LONGEST_LIFE))
            worker.kill()
            killed += worker.wait() != 0
    with start_worker(store, game) as last:
        assert last.wait() == 0
    return killed


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill workers at random and count what their steps wrote.")
    parser.add_argument("--store", type=Path, help="directory to keep the runs in (default: a temporary one)")
    parser.add_argument("--kills", type=int, default=10, help="how many workers to kill (default: 10)")
    parser.add_argument("--runs", type=int, default=30, help="how many runs to submit (default: 30)")
    parser.add_argument("--worker", metavar="GAME", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.store, args.worker)
        return

    with ExitStack() as stack:
        store = args.store or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store.mkdir(parents=True, exist_ok=True)
        game = f"game-{uuid.uuid4().hex[:8]}"
        queue = stack.enter_context(Queue.open(store / "jobs"))
        client = WorkflowClient(queue, queue_name=game)
        # A worker that dies costs what it was running an attempt; a refusal costs none.
        handles = client.submit_many([RunSpec(max_attempts_per_step=1_000) for _ in range(args.runs)])
        killed = kill_again_and_again(store, game, args.kills)

        attempts = [attempt for handle in handles for attempt in queue.attempt_history(handle.first_job_id)]
        ended = [each for each in attempts if each.outcome in (AttemptOutcome.CONTINUED, AttemptOutcome.SUCCEEDED)]
        begun = len((store / f"{game}.log").read_text().splitlines())
        counter = int(queue.kv.get(f"{game}/steps") or b"0")
        pockets = sum(int(value) for _, value in queue.kv.scan(f"{game}/pocket/").items)
        receipts = [claim.job.payload for claim in queue.claim_batch(f"receipts-{game}", 100_000)]

    print(f"{killed} workers killed; steps were begun {begun} times, refused and run again among them")
    print(f"steps that ended: {len(ended)}")
    print(f"counter: {counter}, exchanged values: {pockets}, receipts: {len(receipts)}")
    assert len(ended) == args.runs * STEPS
    assert counter == pockets == len(receipts) == len(set(receipts)) == len(ended)
    print("each effect happened exactly once for each step that ended")


if __name__ == "__main__":
    main()
