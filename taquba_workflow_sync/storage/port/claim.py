"""What a claim asks for, what it gets, and what becomes of a claim that was abandoned."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.settings import CurrentSettings
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.timing import Late, Moment
from taquba_workflow_sync.storage.port.wait import WaitEnd

NOTHING_RUNS: Final[frozenset[str]] = frozenset()


class LaneClaim(NamedTuple):
    """A queue to claim from, and how long a lease its claims get."""

    queue: str
    lease_ms: int


class TakenBack(NamedTuple):
    """A job that a claim has found abandoned, or past its time, and what has become of it by that, and why.

    ``step`` and ``attempts`` are where it stood; ``status`` is pending where it is tried again.
    """

    job_id: str
    run_id: str | None
    queue: str
    step: int
    attempts: int
    max_attempts: int
    label: str | None
    status: JobStatus
    why: str


class ClaimRequest(NamedTuple):
    """Claim up to ``limit`` jobs, from the first lane that has any, then the next.

    ``is_bare``: nobody renews the claims, their lease alone decides. ``abandoned``: evidence of this store whose claims
    may be taken over; it is checked again inside. ``never_reap``: tokens whose steps run in this process, which are
    taken back on no evidence. ``is_spare``: only for the room of claims that the same call lets go of though they had
    leave to hold; where it comes to none, an engine need not look at the lanes. ``taken_back``: where an engine puts
    what the claim has taken back or ended in its lanes; nothing, if that came to nothing.
    """

    lanes: tuple[LaneClaim, ...]
    limit: int
    is_bare: bool = False
    abandoned: Abandoned | None = None
    never_reap: Collection[str] = NOTHING_RUNS
    is_spare: bool = False
    taken_back: list[TakenBack] | None = None


class ClaimedRow(NamedTuple):
    """A job just claimed, as its worker needs it; in the order of the line, which is by ``rank``, then ``place``.

    ``damage`` says why the stored row cannot be worked on; it must be dead-lettered, so that it blocks no other.
    ``wait``: how the wait before this step ended, if there was one. ``deadline`` is the run's, ``step_end`` when this
    claim's time is over, ``late`` a limit that had passed before; ``settings`` what the step was given. All are None
    for a plain row.
    """

    id: str
    token: str
    step: int
    attempts: int
    max_attempts: int
    payload: bytes
    headers: str
    priority: int
    cancel_requested: bool
    run_id: str | None
    enqueued_ms: int
    run_at_ms: int | None
    last_error: str | None
    queue: str
    claimed_ms: int
    lease_until_ms: int
    place: int
    rank: int
    damage: str | None = None
    wait: WaitEnd | None = None
    deadline: Moment | None = None
    step_end: Moment | None = None
    late: Late | None = None
    settings: CurrentSettings | None = None


def next_step(row: ClaimedRow, token: str, payload: bytes, settings: CurrentSettings | None) -> ClaimedRow:
    """Return what a claim holds that goes on with the next step of its run under another token.

    By position: of a row as wide as this one, ``_replace`` takes two and a half times as long, for every step.
    """
    return ClaimedRow(
        row.id,
        token,
        row.step + 1,
        1,  # attempts
        row.max_attempts,
        payload,
        row.headers,
        row.priority,
        False,  # cancel_requested
        row.run_id,
        row.enqueued_ms,
        None,  # run_at_ms
        None,  # last_error
        row.queue,
        row.claimed_ms,
        row.lease_until_ms,
        row.place,
        row.rank,
        row.damage,
        None,  # wait
        row.deadline,
        row.step_end,
        row.late,
        settings,
    )


def after_abandonment(*, cancel_requested: bool, attempts: int, max_attempts: int, is_late: bool = False) -> JobStatus:
    """Return where a claim goes that nobody works on any more: the attempt counts, a cancellation goes first, then the
    deadline of its run."""
    if cancel_requested:
        return JobStatus.CANCELLED
    return JobStatus.DEAD if is_late or attempts >= max_attempts else JobStatus.PENDING
