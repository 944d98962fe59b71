"""A run that this program does not know the step of, or that a newer one wrote: left to a worker that is newer."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.errors import StepError
from taquba_workflow_sync.workflow.history import RunEvent
from taquba_workflow_sync.workflow.runner import Step

#: How long a run waits for a worker that can run it, since the first that could not; in seconds.
PATIENCE: Final = 3600.0
#: How long it is put back for: soon at first, since a deploy is over in a minute, and not for ever as often.
_SHORTEST: Final = 5.0
_LONGEST: Final = 60.0
_PART: Final = 0.25

#: What the history says of each time. By it the first one is found, at every worker alike.
MARK: Final = "left to a newer worker: "


def leave_to_newer(step: Step, why: str) -> StepError:
    """Return what puts a run back, uncharged, for 5 to 60 seconds; after an hour of that, what makes a dead letter."""
    waited = waited_for(step._held.history())
    if waited >= PATIENCE:
        return StepError.permanent(f"no worker could run it for an hour: {why}")
    return StepError.put_back(min(max(waited * _PART, _SHORTEST), _LONGEST), MARK + why)


def waited_for(history: list[RunEvent]) -> float:
    """Return for how many seconds a run was put back so and nothing else; the last of its history is this attempt."""
    now = first = None
    for event in reversed(history):
        if event.kind == "retried":
            break  # an operator has given it another hour
        if now is None and event.kind == "started":
            now = event.at
        if event.kind == "ended":
            if not (event.error or "").startswith(MARK):
                break
            first = event.at
    return 0.0 if now is None or first is None else max((now - first).total_seconds(), 0.0)
