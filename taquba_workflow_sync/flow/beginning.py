"""A step of a flow with what it begins with, as a flow whose runs begin there: for tests of users."""

from __future__ import annotations

from typing import Any

from taquba_workflow_sync.flow.flow_step import FlowStep
from taquba_workflow_sync.flow.running import run_step
from taquba_workflow_sync.flow.step import codec_of
from taquba_workflow_sync.outcome import RunOutcome
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.client import RunHandle, WorkflowClient
from taquba_workflow_sync.workflow.new_run import DEFAULT_KEEP
from taquba_workflow_sync.workflow.outcomes import StepOutcome
from taquba_workflow_sync.workflow.runner import Step
from taquba_workflow_sync.workflow.served import Service


class Beginning:
    """Serves the queue of the step's flow: a run goes to the step first, and on as the flow does; nobody is told."""

    def __init__(self, step: FlowStep[Any, ..., Any], state: Any) -> None:
        """Check the state.

        Raises:
            TypeError: it does not fit; names the path.
            FlowDefinitionError: the flow is not put together so that it could run.
        """
        self._definition = step._definition
        self._definition.check()
        self._first = step.goto(state).outcome

    def run_step(self, step: Step) -> StepOutcome:
        """Run one step."""
        return self._first if step.step_number == 0 else run_step(self._definition, step)

    def service(self) -> Service:
        """Return what a runtime needs to serve it."""
        return Service(self._definition.name, self.run_step, None, DEFAULT_KEEP)

    def client(self, queue: Queue) -> WorkflowClient:
        """Return a client of the flow's queue."""
        return WorkflowClient(queue, queue_name=self._definition.name)

    def submit(self, state: None, *, queue: Queue, **fields: Any) -> RunHandle:
        """Submit a run that begins with the step."""
        return self.client(queue).submit(**fields)

    def signal(self, run_id: str, name: str, value: object, *, queue: Queue) -> None:
        """Send a signal with a value, as a flow does."""
        self.client(queue).signal(run_id, name, codec_of(Any).encode(value, name))

    def result_of(self, outcome: RunOutcome) -> Any:
        """Return the result of a run that succeeded."""
        return self._definition.result.decode(outcome.result or b"", "result")
