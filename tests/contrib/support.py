"""A store with something to see in it."""

from __future__ import annotations

from taquba_workflow_sync import Continue, Fail, Queue, Step, StepError, StepOutcome, Succeed, WorkflowRuntime
from tests.support import PATIENCE


def orders(step: Step) -> StepOutcome:
    """Two steps that succeed, or one that fails as the run's name says."""
    if step.run_id.startswith("dead"):
        raise StepError.permanent("410")
    if step.run_id.startswith("fail"):
        return Fail("no")
    if step.run_id.startswith("retry") and step.step_number == 0 and step.attempts == 1:
        raise OSError("away")
    return Succeed() if step.step_number else Continue(label="ship")


def work(queue: Queue, *run_ids: str, queue_name: str = "orders") -> None:
    """Submit runs and work until idle."""
    runtime = WorkflowRuntime(queue, orders, queue_name=queue_name)
    for run_id in run_ids:
        runtime.submit(run_id=run_id, label="charge")
    runtime.run_until_idle(PATIENCE)
