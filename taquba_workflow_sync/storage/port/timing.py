"""Until when a run may take: its deadline, when it must have started, and how long one step may run."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from taquba_workflow_sync.clock import LAST_MS, from_ms
from taquba_workflow_sync.errors import TaqubaError


class Overrun(enum.Enum):
    """What of a run's limits has passed."""

    DEADLINE = "deadline"
    EXPIRY = "expiry"
    STEP_TIMEOUT = "step timeout"


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """What a submit says: until when the run must have ended, and within what it must have started.

    ``deadline_after_ms`` and ``expires_after_ms`` count from the submit, or from ``run_at_ms`` where that is later.
    """

    deadline_ms: int | None = None
    deadline_after_ms: int | None = None
    expires_after_ms: int | None = None


class Ends(NamedTuple):
    """When a run ends whatever it does, and when it does unless it has started; by the store's clock."""

    deadline_ms: int | None
    expires_ms: int | None

    @property
    def first_ms(self) -> int | None:
        """The earlier of the two."""
        return min((each for each in self if each is not None), default=None)


class Late(NamedTuple):
    """A limit that has passed, and when it did."""

    overrun: Overrun
    at_ms: int

    @property
    def why(self) -> str:
        """The sentence that the run's error begins with."""
        at = from_ms(self.at_ms).isoformat()
        if self.overrun is Overrun.EXPIRY:
            return f"RunExpired: the run had not started by {at}"
        return f"RunDeadlineExceeded: the run had not ended by its deadline, {at}"


class Moment(NamedTuple):
    """A time by one of a store's clocks; only that store can tell how far away it is."""

    clock: int
    ms: int


class LimitPassedError(TaqubaError):
    """A settlement yields to a limit that has passed; nothing was applied. The text says which."""

    def __init__(self, overrun: Overrun, text: str) -> None:
        super().__init__(text)
        self.overrun = overrun


class Timing(Protocol):
    """What has to be known of limits beside the transitions.

    A run past its deadline, or that has not started in time, ends in the transaction of a claim from its queue, at most
    500 at once; one that is claimed is asked to stop then, as by a cancellation.
    """

    def remaining_ms(self, moment: Moment) -> int:
        """Return how far away a moment of this store is; negative: how long ago it was."""
        ...

    def has_late(self, queue: str) -> bool:
        """Return whether a claim from the queue would end a run, or ask it to stop, for its limits."""
        ...


def ends_of(limits: TimeLimits, now_ms: int, run_at_ms: int | None) -> Ends:
    """Return when a run that is submitted now ends."""
    begin = now_ms if run_at_ms is None else max(now_ms, run_at_ms)
    deadline = limits.deadline_ms
    if limits.deadline_after_ms is not None:
        deadline = min(begin + limits.deadline_after_ms, LAST_MS)
    expires = None if limits.expires_after_ms is None else min(begin + limits.expires_after_ms, LAST_MS)
    return Ends(deadline, expires)


def late_at(now_ms: int, ends: Ends) -> Late | None:
    """Return which of a run's limits has passed; of both the one that did first."""
    deadline_ms, expires_ms = ends
    if expires_ms is not None and expires_ms <= now_ms and (deadline_ms is None or expires_ms < deadline_ms):
        return Late(Overrun.EXPIRY, expires_ms)
    if deadline_ms is not None and deadline_ms <= now_ms:
        return Late(Overrun.DEADLINE, deadline_ms)
    return None


def after_retry(now_ms: int, ends: Ends, deadline_after_ms: int | None) -> Ends:
    """Return the limits of a run that is put back in line: a span begins anew, a date is dropped."""
    if deadline_after_ms is None:
        return Ends(None, None)
    return Ends(min(now_ms + deadline_after_ms, LAST_MS), None)
