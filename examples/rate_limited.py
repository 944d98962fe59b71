"""A limit per customer over two processes: each customer's API takes two requests at once, and twelve a second.

    python examples/rate_limited.py
    python examples/rate_limited.py --store DIR

Two worker processes serve one queue with eight threads each; three customers have twelve runs each. What the store has
recorded of every claim proves it at the end: never more than two of a customer at once, never more than twelve in any
second.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

from taquba_workflow_sync import Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowClient, WorkflowRuntime

CUSTOMERS = ("acme", "globex", "initech")
RUNS = 12
AT_ONCE = 2
PER_SECOND = 12


def call_api(step: Step) -> StepOutcome:
    """Stand for a request to the customer's API."""
    time.sleep(0.02)
    return Succeed(step.payload)


def work(store: Path) -> None:
    """Serve the queue until nothing is left to do."""
    with Queue.open(store) as queue:
        runtime = WorkflowRuntime(queue, call_api, max_concurrent_steps=8)
        # A rate's refill is a due time: wait for it, and go on until every run has ended.
        while queue.stats(runtime.queue_name).pending:
            runtime.run_until_idle(wait_for_scheduled=timedelta(seconds=2))


def claims_of(queue: Queue, client: WorkflowClient) -> dict[str, list[tuple[datetime, datetime]]]:
    """Return when each claim of each customer began and ended, as the store has recorded it."""
    claims: dict[str, list[tuple[datetime, datetime]]] = {customer: [] for customer in CUSTOMERS}
    for job in queue.list_jobs(client.queue_name, limit=10_000).jobs:
        for attempt in queue.attempt_history(job.id):
            claims[job.headers["customer"]].append((attempt.claimed_at, attempt.ended_at))
    return {customer: sorted(spans) for customer, spans in claims.items()}


def most_at_once(spans: list[tuple[datetime, datetime]]) -> int:
    """Return how many spans overlapped at most; one that ends when another begins does not overlap it."""
    return max(sum(begin <= start < end for begin, end in spans) for start, _ in spans)


def most_in_a_second(spans: list[tuple[datetime, datetime]]) -> int:
    """Return how many began in any one second, wherever it lies."""
    second = timedelta(seconds=1)
    return max(sum(start <= begin < start + second for begin, _ in spans) for start, _ in spans)


def main(store: Path) -> None:
    with Queue.open(store) as queue:
        client = WorkflowClient(queue)
        client.set_limit(key="customer-*", concurrency=AT_ONCE, rate=(PER_SECOND, 1))
        client.submit_many(
            RunSpec(
                run_id=f"{customer}-{number}",
                input=b"request",
                limit_key=f"customer-{customer}",
                headers={"customer": customer},
            )
            for number in range(RUNS)
            for customer in CUSTOMERS
        )
        parked = sum(run.waiting_for is not None for run in client.list_runs(limit=1000).runs)
        print(f"{RUNS * len(CUSTOMERS)} runs submitted, {parked} of them wait for their customer")
        print("two processes with eight threads each begin")
        workers = [subprocess.Popen([sys.executable, __file__, "--store", str(store), "--work"]) for _ in range(2)]
        assert [worker.wait() for worker in workers] == [0, 0]
        runs = client.list_runs(limit=1000).runs
        assert all(run.state == "succeeded" for run in runs)
        print(f"{len(runs)} runs succeeded")
        for customer, spans in claims_of(queue, client).items():
            at_once, in_a_second = most_at_once(spans), most_in_a_second(spans)
            print(f"{customer}: at most {at_once} at once, at most {in_a_second} in any second")
            assert at_once <= AT_ONCE and in_a_second <= PER_SECOND
        print("proved: no customer's API was asked for more than it can bear")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, help="keep the store here; by default it is thrown away")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.store)
    elif arguments.store is not None:
        main(arguments.store)
    else:
        with tempfile.TemporaryDirectory() as directory:
            main(Path(directory) / "store")
