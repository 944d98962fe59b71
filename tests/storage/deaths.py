"""The ways in which nobody may work on a claim any more, each brought about as it really happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock
from tests.support import wait_until

from .bench import LEASE_MS, claim

#: Its owner is dead; its living owner was watched not to renew it; its own handle gave it up; a bare lease is over.
How = Literal["owner", "watched", "own", "bare"]
HOWS: Final[tuple[How, ...]] = ("owner", "watched", "own", "bare")
#: Those that somebody must tell the store of.
TOLD: Final[tuple[How, ...]] = ("owner", "watched", "own")

# Watched for ten of these, by a clock that no test can set.
SHORT_LEASE_MS: Final = 5


class Deaths:
    """Has claims made, and then lets whoever holds them die; the test's own store looks on."""

    def __init__(self, store: Store, make_store: Callable[[], Store], clock: ManualClock) -> None:
        self._store = store
        self._make_store = make_store
        self._clock = clock
        self._holders: dict[str, Store] = {}

    def take(self, how: How, **options: Any) -> ClaimedRow:
        """Claim one job, through whom it takes."""
        holder = self._make_store() if how in ("owner", "watched") else self._store
        if how == "watched":
            options = {"lease_ms": SHORT_LEASE_MS, **options}
        held = claim(holder, is_bare=how == "bare", **options)
        self._holders[held.token] = holder
        return held

    def holder(self, held: ClaimedRow) -> Store:
        """The handle that made a claim."""
        return self._holders[held.token]

    def let_die(self, how: How, held: ClaimedRow) -> Abandoned | None:
        """Make the claim an abandoned one, and return the evidence that the store has of it."""
        match how:
            case "owner":
                self._holders[held.token].close()
                return self._store.abandoned_claims(suspect=owner_of_claim(self._store, held))
            case "own":
                return self._store.abandoned_claims(own={held.token})
            case "bare":
                self._clock.advance(LEASE_MS / 1000)
                return None
            case "watched":
                self._clock.advance(SHORT_LEASE_MS / 1000)
                return watched(self._store)


def watched(store: Store) -> Abandoned:
    """Look at what is overdue until it has been for long enough."""
    found: list[Abandoned] = []

    def look() -> bool:
        found.append(store.abandoned_claims())
        return bool(found[-1])

    wait_until(look, "an abandoned claim")
    return found[-1]


def owner_of_claim(store: Store, held: ClaimedRow) -> str | None:
    """Who holds a claim, as the store shows it."""
    row = store.get(held.id)
    return None if row is None else row.owner
