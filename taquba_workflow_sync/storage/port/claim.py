"""What a claim asks for, and what it gets."""

from __future__ import annotations

from typing import NamedTuple

from taquba_workflow_sync.storage.port.presence import NOTHING_ABANDONED, Abandoned


class ClaimedRow(NamedTuple):
    """A job just claimed, as its worker needs it.

    ``damage`` says why the stored row cannot be worked on; it must be dead-lettered, so that it blocks no other.
    """

    place: int
    id: str
    token: str
    step: int
    attempts: int
    max_attempts: int
    payload: bytes
    headers: str
    priority: int
    cancel_requested: int
    run_id: str | None
    enqueued_ms: int
    run_at_ms: int | None
    last_error: str | None
    queue: str
    claimed_ms: int
    lease_until_ms: int
    damage: str | None = None


class LaneClaim(NamedTuple):
    """A queue to claim from, and how long a lease its claims get."""

    queue: str
    lease_ms: int


class ClaimRequest(NamedTuple):
    """Claim up to ``limit`` jobs, from the first lane that has any, then the next.

    ``is_bare``: nobody renews the claims, their lease alone decides.
    """

    lanes: tuple[LaneClaim, ...]
    limit: int
    is_bare: bool = False
    abandoned: Abandoned = NOTHING_ABANDONED
