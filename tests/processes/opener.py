"""Opens a store that is not there yet, at the moment it is told to, and submits."""

from __future__ import annotations

import sys

import taquba_workflow_sync.storage.embedded.store  # noqa: F401  # imported at the first open otherwise
from taquba_workflow_sync import Queue, WorkflowClient
from tests.processes.client import submit
from tests.processes.harness import say


def main() -> None:
    store, _, number = sys.argv[1:]
    say("ready")
    sys.stdin.readline()
    with Queue.open(store) as queue:
        submit(WorkflowClient(queue), f"c{number}", "3", "go", "3")


if __name__ == "__main__":
    main()
