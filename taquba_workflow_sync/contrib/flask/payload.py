"""What a viewer is shown of a run: never its input, its headers, its error."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from contextlib import suppress
from typing import Any, Final

from taquba_workflow_sync.outcome import RunOutcome
from taquba_workflow_sync.workflow.status import RunState, RunStatus

ENDED: Final = frozenset((RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED))


def text_of(run: RunStatus, outcome: RunOutcome | None) -> str:
    """Return a run as one line of JSON, with no number that JSON has no word for; ``outcome``: how it ended.

    A result is the value that it is JSON of, as a flow's is; else text; else base64.
    """
    progress = run.progress
    shown: dict[str, Any] = {
        "run_id": run.run_id,
        "state": run.state.value,
        "step": run.current_step,
        "label": run.label,
        "progress": None
        if progress is None
        else {
            "done": progress.done,
            "total": progress.total,
            "note": progress.note,
            "at": progress.at.isoformat(),
        },
        "result": None,
    }
    if outcome is None or not outcome.result:  # only a run that succeeded has one
        return json.dumps(shown)
    for read in (json.loads, bytes.decode):
        # Tried with the writing: 1e999 can be read, and is a number that JSON has no word for.
        with suppress(ValueError, RecursionError):
            return json.dumps({**shown, "result": read(outcome.result)}, allow_nan=False)
    return json.dumps({**shown, "result": b64encode(outcome.result).decode()})


def id_of(text: str) -> str:
    """Return the id of an event that tells this: the same in every process, so that any of them can go on."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
