"""Short cuts of the workflow tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from taquba_workflow_sync import Queue, RunOutcome, RunState, Step, StepOutcome, Succeed, WorkflowClient
from tests.support import PATIENCE, await_event, wait_until

STEPS = "workflow-steps"
NOTICES = "workflow-steps.terminal"


@dataclass
class Gate:
    """A runner whose step says that it has started, waits to be let go, and then does as told."""

    then: Callable[[Step], StepOutcome] = lambda step: Succeed(step.payload)
    started: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    steps: list[Step] = field(default_factory=list)

    def run_step(self, step: Step) -> StepOutcome:
        self.steps.append(step)
        self.started.set()
        await_event(self.go, "the step's release")
        return self.then(step)


def echo(step: Step) -> StepOutcome:
    return Succeed(step.payload)


def state(client: WorkflowClient, run_id: str) -> RunState | None:
    status = client.status(run_id)
    return None if status is None else status.state


def ended(client: WorkflowClient, run_id: str) -> RunOutcome:
    """Wait for the end of a run."""
    return client.wait(run_id, PATIENCE)


def settled(queue: Queue, queue_name: str = NOTICES) -> None:
    """Wait until a queue has nothing left to do."""

    def idle() -> bool:
        stats = queue.stats(queue_name)
        return stats.pending + stats.scheduled + stats.claimed == 0

    wait_until(idle, f"the end of all jobs of {queue_name}")
