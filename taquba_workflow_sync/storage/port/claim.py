"""What a claim asks for, what it gets, and what becomes of a claim that was abandoned."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.status import JobStatus

NOTHING_RUNS: Final[frozenset[str]] = frozenset()


class LaneClaim(NamedTuple):
    """A queue to claim from, and how long a lease its claims get."""

    queue: str
    lease_ms: int


class ClaimRequest(NamedTuple):
    """Claim up to ``limit`` jobs, from the first lane that has any, then the next.

    ``is_bare``: nobody renews the claims, their lease alone decides. ``abandoned``: evidence of this store whose claims
    may be taken over; it is checked again inside. ``never_reap``: tokens whose steps run in this process, which are
    taken back on no evidence. ``is_spare``: only for the room of claims that the same call lets go of though they had
    leave to hold; where it comes to none, an engine need not look at the lanes.
    """

    lanes: tuple[LaneClaim, ...]
    limit: int
    is_bare: bool = False
    abandoned: Abandoned | None = None
    never_reap: Collection[str] = NOTHING_RUNS
    is_spare: bool = False


class ClaimedRow(NamedTuple):
    """A job just claimed, as its worker needs it; in the order of the line, which is by priority, then ``place``.

    ``damage`` says why the stored row cannot be worked on; it must be dead-lettered, so that it blocks no other.
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
    damage: str | None = None


def after_abandonment(*, cancel_requested: bool, attempts: int, max_attempts: int) -> JobStatus:
    """Return where a claim goes that nobody works on any more: the attempt counts, a cancellation goes first."""
    if cancel_requested:
        return JobStatus.CANCELLED
    return JobStatus.DEAD if attempts >= max_attempts else JobStatus.PENDING
