"""How far a step has come, as it says itself: shown while its claim holds, and never waited for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

#: The most bytes of a note.
MOST_NOTE_BYTES: Final = 1024


class Progress(NamedTuple):
    """What a step last said, and when that was stored."""

    done: float
    total: float | None
    note: str
    at_ms: int


class ProgressReport(NamedTuple):
    """What a step says under its claim."""

    job_id: str
    token: str
    done: float
    total: float | None
    note: str


class Progresses(Protocol):
    """The progress of steps, which belongs to their claim: what another claim said is not shown."""

    def report_progress(self, reports: Sequence[ProgressReport]) -> None:
        """Store what steps say, in one commit; those whose claim is not held any more are left out."""
        ...
