"""The processes: ``python -m tests.faults.features.actors worker|client STORE LOG ...``."""

from __future__ import annotations

import argparse
import random
import signal
import threading
import time
from pathlib import Path

from taquba_workflow_sync import WorkflowRuntime
from tests.faults.features.client import FeatureClient
from tests.faults.features.runner import FeatureRunner, feature_hook
from tests.faults.journal import Journal
from tests.faults.lab import open_queue
from tests.processes.harness import say, say_when_ready

CONCURRENCY = 4


def work(options: argparse.Namespace) -> None:
    """Run what there is until SIGTERM."""
    journal = Journal(options.log)
    with open_queue(options.store, checkpoint_bytes=options.checkpoint) as queue:
        runtime = WorkflowRuntime(
            queue, FeatureRunner(journal), feature_hook(journal), max_concurrent_steps=CONCURRENCY, poll_interval=0.25
        )
        threading.Thread(target=say_when_ready, daemon=True).start()
        runtime.run(handle_signals=True)


def ask(options: argparse.Namespace) -> None:
    """Go on with what a killed client left, then make calls at random, until SIGTERM."""
    told_to_end: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told_to_end.append(number))
    journal = Journal(options.log)
    with open_queue(options.store, checkpoint_bytes=options.checkpoint) as queue:
        client = FeatureClient(
            queue, journal, options.name, random.Random(options.seed), has_large_groups=options.large_groups
        )
        say("ready")
        client.go_on()
        client.begin()
        while not told_to_end:
            client.act()
            time.sleep(options.pause)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["worker", "client"])
    parser.add_argument("store", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--checkpoint", type=int, default=1 << 22)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="c")
    parser.add_argument("--large-groups", action="store_true")
    parser.add_argument("--pause", type=float, default=0.01)
    options = parser.parse_args()
    (work if options.role == "worker" else ask)(options)


if __name__ == "__main__":
    main()
