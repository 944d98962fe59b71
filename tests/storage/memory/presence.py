"""Whose claims may be taken over: those of closed handles, those watched for long enough, and those given up here."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from taquba_workflow_sync.storage.port.presence import LEASES_WHILE_ALIVE, Abandoned, may_be_taken_over
from tests.storage.memory.state import Row, State

# One gap between two looks counts for no more than this part of what is waited for: a process that was stopped has
# not watched.
_MOST_OF_ONE_GAP: Final = 1 / 4


@dataclass(frozen=True, slots=True)
class Evidence:
    """Whose claims may be taken over: of dead owners; by token, if the lease is still the one that was watched; and
    by token, whatever the lease says."""

    owners: frozenset[str]
    leases: Mapping[str, int]
    ended: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.owners or self.leases or self.ended)


def why_abandoned(row: Row, abandoned: Abandoned | None, never_reap: Collection[str]) -> str | None:
    """Return why a claim may be taken over; None: it may not. Checked where the claim is taken."""
    if abandoned is None or row.held is None or row.held.token in never_reap:
        return None
    if not isinstance(abandoned, Evidence):
        raise TypeError(f"{type(abandoned).__name__} is no evidence of this engine")
    if row.held.owner in abandoned.owners:
        return "the process that ran it died"
    if row.held.token in abandoned.ended:
        return "its step ended, and its end could not be stored"
    if abandoned.leases.get(row.held.token) == row.held.lease_until_ms:
        return "the process that ran it stopped renewing its lease"
    return None


class _Watch(NamedTuple):
    """An overdue claim: the lease it had, for how long it was watched, and when it was last looked at."""

    lease_until_ms: int
    watched_s: float
    looked: float


class Watcher:
    """What one handle has seen of the others' overdue claims."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._watched: dict[str, _Watch] = {}

    def look(self, state: State, now_ms: int, open_owners: Collection[str], own: Collection[str]) -> Evidence:
        """Return what may be taken over now."""
        dead: set[str] = set()
        leases: dict[str, int] = {}
        ended: set[str] = set()
        watched: dict[str, _Watch] = {}
        for row in state.rows.values():
            held = row.held
            if held is None or held.owner is None:
                continue
            if held.owner == self._owner:
                if held.token in own:
                    ended.add(held.token)
                continue
            lives = held.owner in open_owners
            watch = self._watch(held.token, held.lease_until_ms, held.lease_ms / 1000)
            is_overdue = held.lease_until_ms <= now_ms
            if is_overdue:
                watched[held.token] = watch
            unrenewed_s = watch.watched_s if is_overdue else 0.0
            if may_be_taken_over(owner_lives=lives, unrenewed_s=unrenewed_s, lease_s=held.lease_ms / 1000):
                if lives:
                    leases[held.token] = held.lease_until_ms
                else:
                    dead.add(held.owner)
        self._watched = watched
        return Evidence(frozenset(dead), leases, frozenset(ended))

    def _watch(self, token: str, lease_until_ms: int, lease_s: float) -> _Watch:
        now = time.monotonic()
        before = self._watched.get(token)
        if before is None or before.lease_until_ms != lease_until_ms:
            return _Watch(lease_until_ms, 0.0, now)
        most = LEASES_WHILE_ALIVE * lease_s * _MOST_OF_ONE_GAP
        return _Watch(lease_until_ms, before.watched_s + min(now - before.looked, most), now)
