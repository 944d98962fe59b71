"""How a run ended: the one value that hooks, handles and errors carry."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime


class TerminalStatus(enum.StrEnum):
    """How a run ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended. (``job_id``, ``termination``) names this ending: a retried run can end again.

    ``result`` is set if it succeeded, ``error`` if it failed, or was cancelled with a reason.
    """

    run_id: str
    status: TerminalStatus
    result: bytes | None
    error: str | None
    headers: dict[str, str]
    final_step: int
    job_id: str
    termination: int
    finished_at: datetime
