"""The port: the transitions an engine makes durable, each one atomic commit, and what can be read.

An engine guards and writes. Policy (retry or dead? when? whose claim is too old?) is decided above and passed down as
data; the rules that need a row are pure functions of this package, which an engine calls or says in its own language.
Time is the store's: "due", "expired" and "visible" are asked of it, never computed above.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from taquba_workflow_sync.clock import Clock
from taquba_workflow_sync.failpoints import Failpoint
from taquba_workflow_sync.storage.port.cancellation import Cancellation
from taquba_workflow_sync.storage.port.changes import ChangeSource
from taquba_workflow_sync.storage.port.claim import NOTHING_RUNS, ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.effects import EffectCommits
from taquba_workflow_sync.storage.port.event import Events
from taquba_workflow_sync.storage.port.finding import Finding
from taquba_workflow_sync.storage.port.graph import Graphs
from taquba_workflow_sync.storage.port.group import Groups
from taquba_workflow_sync.storage.port.job import Inserted, NewJob
from taquba_workflow_sync.storage.port.kv import KeyValues
from taquba_workflow_sync.storage.port.limit import Limits
from taquba_workflow_sync.storage.port.memo import Memos
from taquba_workflow_sync.storage.port.meter import Counting, Meters
from taquba_workflow_sync.storage.port.notification import Subscriptions
from taquba_workflow_sync.storage.port.operators import Operators
from taquba_workflow_sync.storage.port.presence import Abandoned, Presence
from taquba_workflow_sync.storage.port.progress import Progresses
from taquba_workflow_sync.storage.port.reads import Reads
from taquba_workflow_sync.storage.port.schedule import Schedules
from taquba_workflow_sync.storage.port.settlement import Answer, Settlement
from taquba_workflow_sync.storage.port.signals import Signals
from taquba_workflow_sync.storage.port.timing import Timing
from taquba_workflow_sync.storage.port.trace import Traces
from taquba_workflow_sync.storage.port.usage import Usages
from taquba_workflow_sync.storage.port.worker import Workers


class Transitions(Protocol):
    """What moves a job; the table is in ``storage.port.transitions``. Texts hold no U+0000."""

    def insert(self, jobs: Sequence[NewJob]) -> list[Inserted]:
        """- -> pending / scheduled, all or none; a taken dedup key or run id answers with the job that is there."""
        ...

    def settle_and_claim(
        self, settlements: Sequence[Settlement], claims: Sequence[ClaimRequest], counting: Counting | None = None
    ) -> tuple[list[Answer], list[ClaimedRow]]:
        """End claims, each under its fence, then claim what is first in line, in one commit when nothing fails.

        A refused settlement answers with its error and harms no other. A claim first ends the runs of its lanes whose
        time is over, promotes what is due there and takes back what is abandoned. Without settlements, a claim that
        fails raises.

        Claims that may be held are let go of, the first given first, until what waits and goes before the rest fits
        into their room; the claims of the same call take one more job for each. A settlement that finds its claim
        under the token of its own hold, since an earlier try of it was stored, is answered as held.

        ``counting``: added to the series in the same commit. Where that fails nothing else does, and it is lost.
        """
        ...

    def token_after(self, token: str) -> str:
        """Return a token that nobody has had, for the job of ``token`` to be held under; writes and reads nothing."""
        ...

    def renew(self, tokens: Collection[str], lease_ms: int) -> tuple[int, frozenset[str]]:
        """claimed -> claimed: leases of ``tokens`` end ``lease_ms`` from now. Returns when, and the tokens renewed."""
        ...

    def cancel(
        self,
        job_id: str,
        *,
        reason: str | None = None,
        abandoned: Abandoned | None = None,
        never_reap: Collection[str] = NOTHING_RUNS,
        deliver: LaneClaim | None = None,
    ) -> Cancellation:
        """pending / scheduled -> cancelled (a bare job's row goes); claimed: flag it, or end it if it is abandoned.

        A run that ends by it, now or when its claim does, has ``reason`` as its error, unless its runner gave another;
        of several the first that gave one counts. With ``deliver``, the notification it inserts comes back claimed by
        the caller.
        """
        ...

    def requeue(
        self, job_id: str, *, failed_run: bool = False, payload: bytes | None = None, clears_memo: bool = False
    ) -> None:
        """dead -> pending at the back of its priority; with ``failed_run`` also done with the verdict failed.

        ``payload``: in place of what its step had. ``clears_memo``: its step and its run have noted nothing.
        """
        ...


class Maintenance(Protocol):
    """What keeps a store small, sound and saved."""

    def sweep(self) -> int:
        """done / dead / cancelled -> gone, where the retention frozen on the row is over; at most 500."""
        ...

    def backup(self, address: str) -> None:
        """Write a copy of one moment to a place where nothing is yet, while others work; durable on return."""
        ...

    def backup_file(self, path: str) -> None:
        """As ``backup``, into one file that is not there yet, which an engine can restore."""
        ...

    def examine(self) -> list[Finding]:
        """Return how the store and what it stands on are, for an operator; reads only."""
        ...

    def check(self) -> list[str]:
        """Return what is wrong with the store, a sentence each with what to do; reads only."""
        ...

    def unreadable(self) -> list[str]:
        """Return what this handle met that cannot be read and was passed over, a sentence each."""
        ...

    def close(self) -> None:
        """Let go of everything, the owner's lock too. Idempotent."""
        ...


class Store(
    Transitions,
    Subscriptions,
    Memos,
    KeyValues,
    EffectCommits,
    Signals,
    Timing,
    Schedules,
    Progresses,
    Events,
    Operators,
    Limits,
    Usages,
    Groups,
    Graphs,
    Meters,
    Traces,
    Reads,
    Presence,
    Workers,
    ChangeSource,
    Maintenance,
    Protocol,
):
    """One open store. Usable from any thread; after ``close``, ``StoreClosedError``.

    Over a fork: a store that was open in the parent works in the child as another owner, whose connections, locks and
    leader are its own; what the parent's threads had under way is the parent's, and is not done twice.
    """


class Durability(enum.StrEnum):
    """What a call that returned survives: a power cut too, or only the death of its process."""

    FULL = "full"
    RELAXED = "relaxed"


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How a store is opened. ``clock`` None: the engine's own. ``wait_s``: for others to let an exclusive open, or a
    migration, begin; None: not at all. ``migrates``: makes what is not there, and upgrades what is older.
    ``direct_address``: where a server is reached without the pooler that the store's address leads through."""

    durability: Durability = Durability.FULL
    is_exclusive: bool = False
    clock: Clock | None = None
    failpoint: Failpoint | None = None
    wait_s: float | None = None
    migrates: bool = True
    direct_address: str | None = field(default=None, repr=False)  # there may be a password in it


#: How an engine is opened: at an address (a path, a URL) that means something to it alone.
OpenStore = Callable[[str, OpenOptions], Store]
