"""The step that runs in this context, for whoever writes a line about it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

from taquba_workflow_sync.storage.port.claim import ClaimedRow

#: Set while a step's own code runs, and for what copies its context.
CURRENT: Final[ContextVar[ClaimedRow | None]] = ContextVar("taquba_workflow_sync.step", default=None)


def extras_of(row: ClaimedRow) -> dict[str, Any]:
    """Return what every record about a step carries."""
    return {
        "run_id": row.run_id,
        "step": row.step,
        "label": None if row.settings is None else row.settings.label,
        "attempt": row.attempts,
        "queue": row.queue,
        "job_id": row.id,
    }
