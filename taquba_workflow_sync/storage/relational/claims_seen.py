"""The claims that a handle sees: its own, and those of others that may be taken over."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from taquba_workflow_sync.storage.port.presence import RunningClaim
from taquba_workflow_sync.storage.port.worker import WorkerRow, worker_rows
from taquba_workflow_sync.storage.relational import reads
from taquba_workflow_sync.storage.relational.columns import COLUMNS
from taquba_workflow_sync.storage.relational.group_commit import GroupCommit
from taquba_workflow_sync.storage.relational.presence import Evidence, IsAlive, Watch, evidence_of_own
from taquba_workflow_sync.storage.relational.reading import worker as read_worker
from taquba_workflow_sync.storage.relational.reading.timing import is_stopped_for_deadline
from taquba_workflow_sync.storage.relational.reading_access import Reading
from taquba_workflow_sync.storage.relational.rows import OwnedClaim
from taquba_workflow_sync.storage.relational.transitions.enrol import enrol_idle
from taquba_workflow_sync.storage.relational.transitions.fence import row_number

_CLEANING_INTERVAL: Final = 30.0


class OwnPresence(Protocol):
    """A handle as one of its store's owners."""

    @property
    def owner_id(self) -> str:
        """The name that its claims bear."""
        ...

    def use(self) -> None:
        """Check that it is open; in a forked child, become an owner first."""
        ...

    def clean(self) -> None:
        """Clear away what the dead have left."""
        ...

    def look(self) -> None:
        """Look at all other owners at once, where that is what ``IsAlive`` answers from."""
        ...

    def owners(self) -> Collection[str]:
        """Return who has the store open, or may have.

        Raises:
            StorageError: that cannot be looked at.
        """
        ...

    def lives(self, owners: Collection[str]) -> Mapping[str, bool | None]:
        """Return which of some owners live now; declares nobody dead. Those of whom nothing is known may be left out.

        Raises:
            StorageError: that cannot be looked at.
        """
        ...

    def is_suspect(self, owner: str) -> bool:
        """Whether an owner was dead at the last look, or may be, which will soon be known."""
        ...


class ClaimsSeen:
    """What one handle knows of the claims of worker loops."""

    def __init__(
        self,
        presence: OwnPresence,
        is_alive: IsAlive,
        access: Reading,
        commits: GroupCommit,
        read_clock: Callable[[], int],
    ) -> None:
        self._presence = presence
        self._is_alive = is_alive
        self._access = access
        self._commits = commits
        self._read_clock = read_clock
        self.watch: Watch = Watch(is_alive)
        self._next_cleaning = 0.0
        self._failures_seen = 0
        self._enrolled = ""

    def running(self) -> list[RunningClaim]:
        """Return the claims that worker loops hold through this handle."""
        own = self._read(foreign=False)
        asked = [claim.token for claim in own if claim.cancel_requested != 0]
        late = {token for token in asked if self._access.read(is_stopped_for_deadline, row_number(token))}
        # One that has ended between the two looks has no deadline any more: it was not cancelled for that.
        ended = set(asked) - late
        if ended:
            ended -= {claim.token for claim in self._read(foreign=False)}
        return [
            RunningClaim(claim.id, claim.token, claim.cancel_requested != 0, claim.token in late)
            for claim in own
            if claim.token not in ended
        ]

    def abandoned(self, suspect: str | None, own: Collection[str]) -> Evidence:
        """Look which claims may be taken over; now and then, clear away the locks of the dead."""
        foreign = self._read(foreign=True)
        if time.monotonic() >= self._next_cleaning:
            self._next_cleaning = time.monotonic() + _CLEANING_INTERVAL
            self._presence.clean()
        failures, self._failures_seen = self._failures_seen, self._commits.failures
        if failures != self._failures_seen:
            self.watch.begin_anew()  # while this process could not write, the others could not renew
        self._presence.look()
        found = self.watch.look(foreign, self._read_clock(), suspect=suspect)
        if not own:
            return found
        return Evidence(found.owners, {**found.tokens, **evidence_of_own(self._read(foreign=False), own)})

    def suspected(self) -> list[str]:
        """Return the jobs that others hold who are dead, or may be, which will soon be known."""
        foreign = self._read(foreign=True)
        if not foreign:
            return []
        self._presence.look()
        return [claim.id for claim in foreign if self._presence.is_suspect(claim.owner)]

    def workers(self) -> list[WorkerRow]:
        """Return who works, and what each holds."""
        self._presence.use()
        claims = self._access.read(read_worker.claims, self._read_clock)
        holders = {each.owner for each in claims}
        # After the claims: whoever opened the store since, and made one, would hold it as somebody unknown.
        processes = self._access.read(read_worker.enrolled, {*self._presence.owners(), *holders})
        return worker_rows(claims, processes, self._presence.lives({*processes, *holders}))

    def enrol(self) -> None:
        """Have this handle be known as one that works."""
        self._presence.use()
        owner = self._presence.owner_id
        if owner != self._enrolled:
            self._access.write(enrol_idle)
            self._enrolled = owner

    def dead_among(self, owners: Collection[str]) -> list[str]:
        """Return which of some owners live no more; whose lock is gone has closed its handle."""
        own = self._presence.owner_id
        if not owners:
            return []
        self._presence.look()
        return [
            each for each in owners if each != own and not (COLUMNS["owner"].holds(each) and self._is_alive(each, 0.0))
        ]

    def _read(self, *, foreign: bool) -> list[OwnedClaim]:
        self._presence.use()
        claims, is_damaged = self._access.read(reads.running, self._presence.owner_id, foreign=foreign)
        if is_damaged:
            self._access.repair()  # what no owner can be told of would be held for ever
        return claims
