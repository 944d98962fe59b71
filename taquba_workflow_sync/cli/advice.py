"""What an operator can do about a run, by where it stands."""

from __future__ import annotations

from taquba_workflow_sync.queue.records import JobRecord
from taquba_workflow_sync.workflow.new_run import DEFAULT_QUEUE_NAME
from taquba_workflow_sync.workflow.status import RunState, RunStatus


def next_steps(run: RunStatus, job: JobRecord, *, is_paused: bool) -> list[str]:
    """Return what to do next, a sentence each; nothing where nothing is to be done."""
    name = run.run_id if job.queue == DEFAULT_QUEUE_NAME else f"{run.run_id} --queue {job.queue}"
    match run.state:
        case RunState.FAILED:
            return [
                f"mend the cause, then: taquba-workflow runs retry {name}",
                f"if what it has noted is wrong: taquba-workflow runs retry {name} --memo clear",
            ]
        case RunState.CANCELLING:
            return ["it was asked to stop and ends when its step returns; a step that never does ends with its process"]
        case RunState.RUNNING if run.overdue:
            return [f"its step takes longer than it may; look at its process, or: taquba-workflow runs cancel {name}"]
        case RunState.PENDING:
            paused = [f"the queue is paused: taquba-workflow resume --queue {job.queue}"] if is_paused else []
            return paused + _of_waiting(run.waiting_for or "", name, job.queue)
        case _:
            return []


def _of_waiting(waiting_for: str, name: str, queue: str) -> list[str]:
    kind, _, what = waiting_for.partition(":")
    match kind:
        case "time":
            return [f"to have it go on now: taquba-workflow runs wake {name}"]
        case "signal":
            run, *more = name.split(" ", 1)
            return [" ".join([f"it goes on with: taquba-workflow runs signal {run} {what} --payload ...", *more])]
        case "group":
            return [f"it waits for the runs of group {what}: taquba-workflow runs list --parent {name}"]
        case "limit":
            return [f"the limit of {what} is used up: taquba-workflow limits list --queue {queue}"]
        case _:
            return ["it is in line; if it stays there, no worker serves its queue: taquba-workflow worker TARGET"]
