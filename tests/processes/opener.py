"""Opens stores that are not there yet, each at the moment it is told its name, and submits."""

from __future__ import annotations

import sys

import taquba_workflow_sync.storage.embedded.store  # noqa: F401  # imported at the first open otherwise
from taquba_workflow_sync import Queue, WorkflowClient
from tests.processes.client import submit
from tests.processes.harness import say


def main() -> None:
    store, _, number = sys.argv[1:]
    say("ready")
    for name in sys.stdin:
        with Queue.open(f"{store}-{name.strip()}") as queue:
            submit(WorkflowClient(queue), f"c{number}", "1", "go", "3")
        say("ready")


if __name__ == "__main__":
    main()
