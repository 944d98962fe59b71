"""The ends of a claim, as data."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.storage.port.status import Verdict


class UnstorableError(TaqubaError):
    """The store cannot hold what this settlement says, now or at the next try; nothing of it was applied."""


@dataclass(frozen=True, slots=True)
class Ack:
    """The claim ends well, or with the runner's own verdict of failure."""

    verdict: Verdict = Verdict.SUCCEEDED
    result: bytes | None = None
    error: str | None = None


class Hold(NamedTuple):
    """Leave to keep the claim for the next step, in the commit that ends this one: to an engine never an order.

    ``token``: under which the claim goes on, from ``Store.token_after``. ``priority`` and ``place``: the claim's own.
    ``lanes``: the queues that the caller serves before the job's own, and that one, last. ``room``: how many claims it
    can take from them besides; what waits and fits in there is nobody's reason to let go. ``is_within_slice``: whether
    the run may go before others of its priority, whose turn it is.
    """

    token: str
    priority: int
    place: int
    lanes: tuple[str, ...]
    room: int = 0
    is_within_slice: bool = False


def lets_go(hold: Hold, waiting: tuple[int, int], *, keeps_place: bool) -> bool:
    """Return whether a claim is to be let go of for what waits: its priority, and its place in line."""
    priority, place = waiting
    if priority != hold.priority:
        return priority < hold.priority
    return place < hold.place if keeps_place else not hold.is_within_slice


@dataclass(frozen=True, slots=True)
class Advance:
    """The same job, one step on. ``headers`` None keeps them; ``delay_ms`` None means at once.

    With ``hold`` the claim may go on at once (``Ongoing.HELD`` is the answer then); else the job goes back in line.
    """

    payload: bytes
    headers: str | None = None
    delay_ms: int | None = None
    keeps_place: bool = False
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Nack:
    """The attempt failed and others are left: back in line at its place, after ``delay_ms`` (None: at once)."""

    error: str
    delay_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """No attempt is left, or none could help."""

    error: str


@dataclass(frozen=True, slots=True)
class SettleCancelled:
    """End the claim as cancelled, with the runner's own reason if it gave one."""

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """Put back, uncharged, a claim whose work never started."""


Action = Ack | Advance | Nack | DeadLetter | SettleCancelled | Release


class Ongoing(enum.Enum):
    """The answer to a settlement whose claim has not ended: it goes on under the token of its hold."""

    HELD = "held"


#: What became of a settlement: None: the claim has ended as it says; an error: it was refused.
Answer = TaqubaError | Ongoing | None


class Settlement(NamedTuple):
    """The end of one claim.

    ``yields_to_cancel``: refuse with ``CancelRequestedError`` if a cancellation was requested meanwhile.
    """

    job_id: str
    token: str
    action: Action
    yields_to_cancel: bool = False

    @property
    def leave(self) -> Hold | None:
        """The leave to hold the claim, if there is one: not for a step that comes later, or with other headers."""
        action = self.action
        if isinstance(action, Advance) and not action.delay_ms and action.headers is None:
            return action.hold
        return None
