"""The ends of a claim, as data."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.storage.port.effects import Effect
from taquba_workflow_sync.storage.port.settings import StepSettings
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.timing import Moment
from taquba_workflow_sync.storage.port.wait import Wait


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

    ``token``: under which the claim goes on, from ``Store.token_after``. ``rank`` and ``place``: the claim's own.
    ``lanes``: the queues that the caller serves before the job's own or in turn with it, and that one, last. ``room``:
    how many claims it can take from them besides; what waits and fits in there is nobody's reason to let go.
    ``is_within_slice``: whether the run may go before others of its priority, whose turn it is.
    """

    token: str
    rank: int
    place: int
    lanes: tuple[str, ...]
    room: int = 0
    is_within_slice: bool = False


def lets_go(hold: Hold, waiting: tuple[int, int], *, keeps_place: bool) -> bool:
    """Return whether a claim is to be let go of for what waits: its rank, and its place in line."""
    rank, place = waiting
    if rank != hold.rank:
        return rank < hold.rank
    return place < hold.place if keeps_place else not hold.is_within_slice


class Advance(NamedTuple):  # a tuple, since each step makes two: a frozen dataclass takes four times as long
    """The same job, one step on. ``headers`` None keeps them; ``delay_ms`` None means at once.

    With ``wait`` it goes on when what that says is there, or its time is over. For a group that there is none of it is
    refused (``GroupNotFoundError``), and for one that another job waits for (``InvalidStateError``).

    With ``hold`` the claim may go on at once (``Ongoing.HELD`` is the answer then); else the job goes back in line.
    With ``wait`` it goes back in line when what that is for is there, at once if it is, or when its timeout is over.
    ``settings`` are the next step's; None: what the run has.
    """

    payload: bytes
    headers: str | None = None
    delay_ms: int | None = None
    keeps_place: bool = False
    hold: Hold | None = None
    wait: Wait | None = None
    settings: StepSettings | None = None


@dataclass(frozen=True, slots=True)
class Nack:
    """The attempt failed and others are left: back in line at its place, after ``delay_ms`` (None: at once)."""

    error: str
    delay_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PutBack:
    """The attempt came to nothing, and nobody is to blame: back at its place after ``delay_ms``, uncharged.

    Unlike a release it is in the history, with ``why``; unlike a nack it costs no attempt, and is no retry: unless
    ``is_retry``, which says that it is waited for as one. ``is_refusal``: its effects were refused; refusals in a row
    are counted with the row.
    """

    delay_ms: int
    why: str | None = None
    is_refusal: bool = False
    is_retry: bool = False


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


Action = Ack | Advance | Nack | PutBack | DeadLetter | SettleCancelled | Release


class Ongoing(enum.Enum):
    """The answer to a settlement whose claim has not ended: it goes on under the token of its hold."""

    HELD = "held"


#: What became of a settlement: None: the claim has ended as it says; an error: it was refused.
Answer = TaqubaError | Ongoing | None


class Settlement(NamedTuple):
    """The end of one claim.

    ``yields_to_cancel``: refuse with ``CancelRequestedError`` if a cancellation was requested meanwhile; and, where
    none was, with ``LimitPassedError`` if the run's deadline has passed (not with ``ignores_deadline``), or if
    ``step_end`` has, which is the claim's own. ``effects`` are checked behind the fence, against what is stored before
    the settlement, and applied after the row has moved; refused, nothing of the settlement is applied. ``trace``: the
    traceback of an attempt that failed, of a nack or a dead letter.
    """

    job_id: str
    token: str
    action: Action
    yields_to_cancel: bool = False
    effects: tuple[Effect, ...] = ()
    ignores_deadline: bool = False
    step_end: Moment | None = None
    trace: str | None = None

    @property
    def leave(self) -> Hold | None:
        """The leave to hold the claim, if there is one: not for a step that comes later, or that is given other
        headers, or more than a label."""
        action = self.action
        if type(action) is not Advance or action.hold is None or action.delay_ms or action.headers is not None:
            return None
        if action.wait is not None or not (action.settings is None or action.settings.is_label_alone):
            return None
        return action.hold


class Ending(NamedTuple):
    """How a settlement ends its row: from then on its run's name is free."""

    job_id: str
    status: JobStatus
    verdict: Verdict | None


def ending_of(settlement: Settlement) -> Ending | None:
    """Return how a settlement ends its row; None: that goes on."""
    match settlement.action:
        case Ack(verdict=verdict):
            return Ending(settlement.job_id, JobStatus.DONE, verdict)
        case DeadLetter():
            return Ending(settlement.job_id, JobStatus.DEAD, Verdict.FAILED)
        case SettleCancelled():
            return Ending(settlement.job_id, JobStatus.CANCELLED, None)
        case _:
            return None
