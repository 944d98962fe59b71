"""Runs in every state that there is, as steps that do what their payload says."""

from __future__ import annotations

from taquba_workflow_sync import (
    Continue,
    ContinueAfter,
    ContinueOnGroup,
    ContinueOnSignal,
    Fail,
    Queue,
    RunSpec,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)


def step(step: Step) -> StepOutcome:
    """Do what the payload says."""
    word, _, rest = step.payload.decode(errors="replace").partition(" ")
    match word:
        case "later":
            return ContinueAfter(b"", delay=3600, label="deliver")
        case "ask":
            return ContinueOnSignal(b"", rest or "go")
        case "spawn":
            step.effects.submit_group("fan", [RunSpec(input=b"later"), RunSpec(input=b"ok"), RunSpec(input=b"fail")])
            return ContinueOnGroup(b"", "fan")
        case "child":
            step.effects.submit(RunSpec(run_id=rest, input=b"ok"))
            return Succeed()
        case "note":
            step.memo.put(rest, rest.encode())
            return ContinueAfter(b"", delay=3600) if step.attempts > 1 else _raise(ValueError("it has noted"))
        case "raise":
            raise ValueError(rest)
        case "dead":
            raise StepError.permanent(rest or "no such account")
        case "fail":
            return Fail(rest or "not today")
        case "two":
            return Continue(b"ok", label="second")
        case _:
            return Succeed(step.payload)


def _raise(error: Exception) -> StepOutcome:
    raise error


def work(queue: Queue, queue_name: str = "workflow-steps") -> WorkflowClient:
    """Run all that can run; return a client of the queue."""
    WorkflowRuntime(queue, step, queue_name=queue_name).run_until_idle()
    return WorkflowClient(queue, queue_name=queue_name)
