"""Who works on a store, as callers see it: frozen values, read when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from taquba_workflow_sync.clock import from_ms, maybe_from_ms
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.worker import ShownClaim, WorkerRow


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that is claimed. Times are aware, in UTC.

    ``run_id`` None: it is of no run. ``label`` is what the step is called. ``overdue``: the step runs for longer than
    its step timeout; ``lease_expired``: the claim was not renewed in time, and may be taken over.
    """

    queue: str
    job_id: str
    run_id: str | None
    step: int
    label: str | None
    attempt: int
    claimed_at: datetime
    lease_expires_at: datetime
    overdue: bool
    lease_expired: bool


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A process that works on a store by one open handle; with several it is shown as often.

    ``alive`` False: it is dead, and what it has in ``running`` is taken over by others; None: that is not known, or not
    yet. ``since``: when it opened the store, by its machine's wall clock. All four are None for what callers of
    ``Queue.claim`` hold, of whom nothing is known. ``running``: the oldest claim first; empty: it waits for work.
    """

    host: str | None
    pid: int | None
    alive: bool | None
    since: datetime | None
    running: tuple[RunningJob, ...]


def workers_of(store: Store) -> list[WorkerProcess]:
    """Return who works on a store."""
    return [_process(row) for row in store.workers()]


def _process(row: WorkerRow) -> WorkerProcess:
    return WorkerProcess(row.host, row.pid, row.lives, maybe_from_ms(row.since_ms), tuple(map(_job, row.claims)))


def _job(claim: ShownClaim) -> RunningJob:
    return RunningJob(
        queue=claim.queue,
        job_id=claim.job_id,
        run_id=claim.run_id,
        step=claim.step,
        label=claim.label,
        attempt=claim.attempt,
        claimed_at=from_ms(claim.claimed_ms),
        lease_expires_at=from_ms(claim.lease_until_ms),
        overdue=claim.is_overdue,
        lease_expired=claim.is_expired,
    )
