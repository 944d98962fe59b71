"""A run as server-sent events: its status whenever it changes, the last with its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from taquba_workflow_sync.contrib.flask.payload import ENDED, id_of, text_of
from taquba_workflow_sync.errors import RunNotFoundError
from taquba_workflow_sync.outcome import RunOutcome
from taquba_workflow_sync.workflow.client import RunHandle
from taquba_workflow_sync.workflow.status import RunState, RunStatus

#: How long a change may stay unseen; the end of a run is seen at once.
_TICK: Final = 0.25
#: How often something is sent at least, so that a viewer who has gone is noticed.
_QUIET: Final = 2.0
#: After how many milliseconds a viewer asks again whose stream has ended.
RETRY: Final = "retry: 1000\n\n"


def outcome_now(handle: RunHandle, run: RunStatus) -> RunOutcome | None:
    """Return how a run ended; None if it has not."""
    return _wait(handle, 0.0) if run.state in ENDED else None


def event(text: str) -> str:
    """Return a status as an event."""
    return f"id: {id_of(text)}\ndata: {text}\n\n"


def events(
    handle: RunHandle, run: RunStatus, can_see: Callable[[RunStatus], bool], last_id: str | None, seconds: float
) -> Iterator[str]:
    """Yield what is sent to one viewer for so long, or until the run has ended.

    ``last_id``: what the viewer has seen already. Before each status that is told ``can_see`` is asked; the first that
    it refuses ends the stream.
    """
    deadline = time.monotonic() + seconds
    outcome = outcome_now(handle, run)
    said_at = time.monotonic()
    yield RETRY
    while True:
        text = text_of(run, outcome)
        if id_of(text) != last_id:
            if not can_see(run):
                return
            last_id, said_at = id_of(text), time.monotonic()
            yield event(text)
        left = deadline - time.monotonic()
        if run.state in ENDED or left <= 0:
            return
        if time.monotonic() - said_at >= _QUIET:
            said_at = time.monotonic()
            yield ":\n\n"
        outcome = _wait(handle, min(_TICK, left))
        found = handle.status()
        if found is None and outcome is not None:
            # It ended, and is not kept; whoever has watched it is told all the same.
            found = _ended(run, outcome)
        if found is None:
            return
        if found.state in ENDED and outcome is None:
            outcome = _wait(handle, 0.0)
        elif found.state not in ENDED:
            outcome = None
        run = found


def _wait(handle: RunHandle, seconds: float) -> RunOutcome | None:
    try:
        return handle.wait(seconds)
    except (TimeoutError, RunNotFoundError):
        return None


def _ended(run: RunStatus, outcome: RunOutcome) -> RunStatus:
    return replace(
        run,
        state=RunState(outcome.status.value),
        current_step=outcome.final_step,
        finished_at=outcome.finished_at,
        error=outcome.error,
        waiting_for=None,
        progress=None,
    )
