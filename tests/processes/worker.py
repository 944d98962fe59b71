"""A worker process: runs planned runs until SIGTERM, then drains and ends."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

from taquba_workflow_sync import Queue, QueueConfig, WorkflowRuntime
from tests.processes.harness import Witness, say_when_ready
from tests.processes.plans import PlannedRunner, hook_of


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--hook", default="none")
    parser.add_argument("--lease", type=float, default=3600.0, help="recovery must never need it")
    parser.add_argument("--poll", type=float, default=0.25)
    parser.add_argument("--concurrency", type=int, default=4)
    options = parser.parse_args()
    witness = Witness(options.log)
    config = QueueConfig(lease_duration=options.lease, retry_backoff_base=0)
    with Queue.open(options.store, default_config=config) as queue:
        runtime = WorkflowRuntime(
            queue,
            PlannedRunner(witness),
            hook_of(options.hook, witness),
            max_concurrent_steps=options.concurrency,
            poll_interval=options.poll,
        )
        threading.Thread(target=say_when_ready).start()
        runtime.run(handle_signals=True)


if __name__ == "__main__":
    main()
