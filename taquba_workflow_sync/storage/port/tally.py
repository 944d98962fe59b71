"""How many runs of a queue stand where, from counters: nothing is ever counted by looking at rows."""

from __future__ import annotations

from typing import Final, NamedTuple

from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict


class Tally(NamedTuple):
    """Runs by what they show: waiting, in a step, asked to stop, and ended (until they are swept)."""

    pending: int = 0
    running: int = 0
    cancelling: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0


class SpecialCounts(NamedTuple):
    """The counters beside :class:`Counts` by which a tally is told: what is no run, asked to stop, or ended.

    A run that waits or is claimed, and was not asked to stop, is in none of them: plain runs move one at their end.
    """

    bare_waiting: int = 0
    bare_claimed: int = 0
    cancelling: int = 0
    runs_succeeded: int = 0
    runs_failed: int = 0
    runs_cancelled: int = 0
    cancelling_waiting: int = 0


#: Every counter of a queue.
COUNTERS: Final = (*Counts._fields, *SpecialCounts._fields)


def special_count_of(status: str, *, is_run: bool, is_cancelling: bool, has_succeeded: bool) -> str | None:
    """Return the one counter of :class:`SpecialCounts` that a row is in, or None."""
    is_waiting = status in (JobStatus.PENDING, JobStatus.SCHEDULED)
    if is_waiting or status == JobStatus.CLAIMED:
        if not is_run:
            return "bare_waiting" if is_waiting else "bare_claimed"
        if not is_cancelling:
            return None
        return "cancelling_waiting" if is_waiting else "cancelling"
    if not is_run:
        return None
    match status:
        case JobStatus.DONE:
            return "runs_succeeded" if has_succeeded else "runs_failed"
        case JobStatus.DEAD:
            return "runs_failed"
        case JobStatus.CANCELLED:
            return "runs_cancelled"
        case _:
            return None  # of a damaged row: it is counted nowhere


def has_succeeded(verdict: object) -> bool:
    """Whether a stored verdict is that of success."""
    return verdict == Verdict.SUCCEEDED


def tally_of(counts: Counts, special: SpecialCounts) -> Tally:
    """Return how many runs stand where; a counter that is damaged shows as nothing, never as less."""
    waiting = counts.pending + counts.scheduled - special.bare_waiting - special.cancelling_waiting
    tally = Tally(
        pending=waiting,
        running=counts.claimed - special.bare_claimed - special.cancelling,
        cancelling=special.cancelling + special.cancelling_waiting,
        succeeded=special.runs_succeeded,
        failed=special.runs_failed,
        cancelled=special.runs_cancelled,
    )
    return Tally(*(max(each, 0) for each in tally))
