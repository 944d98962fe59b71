"""What a row waits for other than its turn, and how a wait ended: by what it was for, or by its timeout."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from taquba_workflow_sync.storage.port.job import JobRow
from taquba_workflow_sync.storage.port.signals import StoredSignal
from taquba_workflow_sync.storage.port.status import JobStatus

#: When a wait without a timeout is due; an engine takes it for no time at all.
NEVER_MS: Final = 2**61


class WaitKind(enum.StrEnum):
    """What may be waited for."""

    SIGNAL = "signal"
    GROUP = "group"


class Wait(NamedTuple):
    """What the next step waits for: of which kind, of which name, and for how long; None: without an end.

    Until its first claim the wait is open: what it is for beats a timeout that has passed. That claim fixes how it
    ended, for every later attempt of the step; a release of that claim opens it again.
    """

    kind: WaitKind
    name: str
    timeout_ms: int | None = None


class WaitEnd(NamedTuple):
    """How the wait before a step ended: with what it was for (``has_come``, or its signal), or else by its timeout."""

    wait: Wait
    signal: StoredSignal | None = None
    has_come: bool = False

    @property
    def timed_out(self) -> bool:
        """Whether the timeout came first."""
        return self.signal is None and not self.has_come


def waiting_for(row: JobRow) -> str | None:
    """Return what keeps a row from being claimed; None: nothing, or it waits no more."""
    if row.is_parked:
        return f"limit:{row.limit_key}"
    if row.status is JobStatus.SCHEDULED:
        return "time" if row.wait is None else f"{row.wait[0]}:{row.wait[1]}"
    return None
