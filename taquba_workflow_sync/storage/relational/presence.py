"""Whose claims may be taken over: the dead's at once, others' once they were watched to stay overdue."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from taquba_workflow_sync.storage.port.presence import (
    LEASES_WHILE_ALIVE,
    LEASES_WHILE_UNKNOWN,
    may_be_taken_over,
)
from taquba_workflow_sync.storage.relational.rows import OwnedClaim

#: Whether an owner lives, looked at with so many seconds of patience; None: nothing is known of it.
IsAlive = Callable[[str, float], bool | None]

# A probe of an owner's lock takes a fraction of that.
_OTHERS_PROBE: Final = 0.05

# The part of a watch which one gap between two looks may count for. A process that was stopped with all the others
# (SIGSTOP, a frozen container) looks once before and once after: without this bound it would believe that it had
# watched all the while, and take claims whose owners are just waking up too.
_MOST_OF_ONE_GAP: Final = 1 / 4


@dataclass(frozen=True, slots=True)
class Evidence:
    """What this engine knows of abandoned claims: their dead ``owners``, or their ``tokens``, each with its lease.

    A token counts only while the claim has that lease: checked by the transaction that takes it back.
    """

    owners: frozenset[str] = frozenset()
    tokens: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.owners or self.tokens)


class _Watched(NamedTuple):
    """An overdue claim under watch: the lease it had, for how long that counts, and when it was last looked at."""

    lease_until_ms: int
    since: float
    looked: float


class Watch:
    """One handle's look at the claims of others, by its own monotonic clock.

    An overdue claim is timed from when it was first seen overdue and for as long as it stays unrenewed, so that a
    stepping wall clock frees nothing. A long gap between two looks counts in part only, so that having been stopped is
    not taken for having watched.
    """

    def __init__(self, is_alive: IsAlive, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._is_alive = is_alive
        self._monotonic = monotonic
        self._watched: dict[str, _Watched] = {}

    def look(self, claims: Iterable[OwnedClaim], now_ms: int, *, suspect: str | None = None) -> Evidence:
        """Return which of the others' ``claims``, all of them, may be taken over.

        Another process that probes looks like a holder for a moment, which is outwaited for the owner ``suspect``.
        """
        dead: set[str] = set()
        abandoned: dict[str, int] = {}
        lives: dict[str, bool | None] = {}
        overdue: dict[str, _Watched] = {}
        now = self._monotonic()
        for claim in claims:
            owner = claim.owner
            if owner not in lives:
                lives[owner] = self._is_alive(owner, _OTHERS_PROBE if owner == suspect else 0.0)
            if lives[owner] is False:
                dead.add(owner)
            elif claim.lease_until_ms <= now_ms:
                watched = overdue[claim.token] = self._go_on_watching(claim, lives[owner], now)
                if may_be_taken_over(
                    owner_lives=lives[owner], unrenewed_s=now - watched.since, lease_s=claim.lease_ms / 1000
                ):
                    abandoned[claim.token] = claim.lease_until_ms
        self._watched = overdue
        return Evidence(frozenset(dead), abandoned)

    def _go_on_watching(self, claim: OwnedClaim, owner_lives: bool | None, now: float) -> _Watched:
        known = self._watched.get(claim.token)
        if known is None or known.lease_until_ms != claim.lease_until_ms:
            return _Watched(claim.lease_until_ms, now, now)
        leases = LEASES_WHILE_ALIVE if owner_lives else LEASES_WHILE_UNKNOWN
        most = leases * claim.lease_ms / 1000 * _MOST_OF_ONE_GAP
        return _Watched(claim.lease_until_ms, known.since + max(now - known.looked - most, 0.0), now)

    def begin_anew(self) -> None:
        """Forget for how long claims were seen overdue: while this process could not write, nobody could renew."""
        self._watched = {}


def evidence_of_own(claims: Iterable[OwnedClaim], tokens: Collection[str]) -> Mapping[str, int]:
    """Return those of a handle's own ``claims`` that it has given up, by token, with their leases."""
    return {claim.token: claim.lease_until_ms for claim in claims if claim.token in tokens}
