"""The port: the transitions an engine makes durable, each one atomic commit, and what can be read.

An engine guards and writes. Policy (retry or dead? when? whose claim is too old?) is decided above and passed down as
data; the rules that need a row are pure functions of this package.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.storage.port.cancellation import Cancellation
from taquba_workflow_sync.storage.port.changes import CommitListener
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.job import AttemptRow, Inserted, JobRow, NewJob
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.presence import Abandoned, RunningClaim
from taquba_workflow_sync.storage.port.reads import Counts, Filter, Readiness
from taquba_workflow_sync.storage.port.settlement import Settlement


class Store(Protocol):
    """One open store. Usable from any thread; after ``close``, ``StoreClosedError``."""

    def insert(self, jobs: Sequence[NewJob]) -> list[Inserted]:
        """- -> pending / scheduled, all or none; a taken dedup key or run id answers with the job that is there."""
        ...

    def settle_and_claim(
        self, settlements: Sequence[Settlement], claims: Sequence[ClaimRequest]
    ) -> tuple[list[TaqubaError | None], list[ClaimedRow]]:
        """End claims, each under its fence, then claim what is first in line, in one commit when nothing fails.

        A refused settlement answers with its error and harms no other. A claim first promotes what is due in its
        lanes and takes back what ``abandoned`` and expired bare leases free there.
        """
        ...

    def renew(self, tokens: Collection[str], lease_ms: int) -> tuple[int, frozenset[str]]:
        """claimed -> claimed: leases of ``tokens`` end ``lease_ms`` from now. Returns when, and the tokens renewed."""
        ...

    def cancel(self, job_id: str, abandoned: Abandoned, notice: LaneClaim | None) -> Cancellation:
        """pending / scheduled -> cancelled (a bare job's row goes); claimed: flag it, or end it if its owner is dead.

        With ``notice``, the notification it inserts comes back claimed by the caller.
        """
        ...

    def requeue(self, job_id: str, *, failed_run: bool = False) -> None:
        """dead -> pending at the back of its priority; with ``failed_run`` also done with the verdict failed."""
        ...

    def sweep(self) -> int:
        """done / dead / cancelled -> gone, where the retention frozen on the row is over; at most 500."""
        ...

    def subscribe(self, queue: str, subscription: Subscription) -> None:
        """Have every later commit that terminates a run of ``queue`` insert a notification too."""
        ...

    def get(self, job_id: str, *, whole: bool = True) -> JobRow | None:
        """Return the job, or None; not ``whole``: without a large payload or result."""
        ...

    def find_run(self, queue: str, run_id: str) -> JobRow | None:
        """Return the active row of a run id, else its newest, kept or not, or None; without large parts."""
        ...

    def page(self, queue: str, which: Filter, limit: int, after: int) -> list[JobRow]:
        """Return rows in the order they were submitted, those after the row (there or gone) numbered ``after``."""
        ...

    def counts(self) -> dict[str, Counts]:
        """Return every queue's counters."""
        ...

    def history(self, job_id: str) -> list[AttemptRow]:
        """Return a job's ended claims in order: the first 100 and the last 1,000."""
        ...

    def readiness(self, queue: str, *, retries_only: bool = False) -> Readiness:
        """Return whether a claim could succeed now, and when it could next; or only of jobs that wait to be retried.

        The moment is told by the wall clock; look again now and then: for a delay, it moves with every step of it.
        """
        ...

    def running(self, *, foreign: bool) -> list[RunningClaim]:
        """Return the claims that worker loops hold: this handle's, or those of all other owners."""
        ...

    def abandoned_claims(self, *, suspect: str | None = None) -> Abandoned:
        """Probe the other owners' locks and watch their overdue leases; never inside a transaction.

        Another process that probes at the same moment looks like a holder; that is outwaited for the owner ``suspect``.
        """
        ...

    def version(self) -> int:
        """Return a number that changes whenever any process has committed."""
        ...

    def listen(self, listener: CommitListener, *, attend: bool = False) -> AbstractContextManager[None]:
        """Have ``listener`` told of each commit of this process: which queues got work, and whether a run ended.

        With ``attend``, the calling thread commits for every caller while the block runs, if nobody else does: the
        listener is called with nothing when callers wait, and ``settle_and_claim`` commits for them.
        """
        ...

    def close(self) -> None:
        """Let go of everything, the owner lock too. Idempotent."""
        ...
