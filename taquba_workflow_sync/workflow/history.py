"""What happened to a run, as callers see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from taquba_workflow_sync.clock import from_ms
from taquba_workflow_sync.storage.port.event import EventKind, EventRow
from taquba_workflow_sync.storage.port.texts import readable_error


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One thing that happened to a run, at ``at`` (aware, in UTC).

    ``kind`` says what. An attempt is two events, ``STARTED`` and ``ENDED``; both have its ``attempt`` and the ``host``
    and ``pid`` of the process that made it (None where that is not known: a bare claim, or one of an older version).
    ``outcome`` and ``error`` are those of an attempt that ended (an ``AttemptOutcome``) or of a run that did (a
    ``TerminalStatus``), as strings; ``traceback``: the last 8 KiB of the traceback of an attempt that failed by an
    exception. ``detail`` says more of the others, such as the reason of a cancellation.
    """

    at: datetime
    kind: EventKind
    step: int
    attempt: int | None = None
    outcome: str | None = None
    error: str | None = None
    host: str | None = None
    pid: int | None = None
    detail: str | None = None
    traceback: str | None = None


def event_of(row: EventRow) -> RunEvent:
    """Return the record of a stored event."""
    return RunEvent(
        at=from_ms(row.at_ms),
        kind=row.kind,
        step=row.step,
        attempt=row.attempt,
        outcome=row.outcome,
        error=readable_error(row.error),
        host=row.host,
        pid=row.pid,
        detail=readable_error(row.detail),
        traceback=readable_error(row.trace),
    )
