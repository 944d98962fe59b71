"""What can be read of a queue, and which rows of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from taquba_workflow_sync.storage.port.job import AttemptRow, JobRow
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict


@dataclass(frozen=True, slots=True)
class Ready:
    """A claim could succeed now."""


@dataclass(frozen=True, slots=True)
class DueIn:
    """No claim could succeed now; one could ``ms`` milliseconds from now, by the store's clock as it stands."""

    ms: int


#: None: nothing waits for a time.
NextWork = Ready | DueIn | None


class Counts(NamedTuple):
    """A queue's counters: what is there now, and how many were done and cancelled ever."""

    pending: int = 0
    scheduled: int = 0
    claimed: int = 0
    done: int = 0
    dead: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows of a queue a page holds; ``visible_only`` leaves out finished runs past their retention.

    ``prefix``: of the run id. ``header``: a name and its value. ``since_ms`` (inclusive), ``until_ms`` (exclusive): of
    the moment that a row was put in. ``failed_with``: a part of the error of a run that failed. ``parent``: only what
    the run of that job id, or else the newest of that run id, has spawned. ``ended_for_ms``: what ended so long ago, by
    the store's clock. ``most_examined``: look at no more rows than that; a page may then be short and lead on all the
    same.
    """

    status: JobStatus | None = None
    verdict: Verdict | None = None
    cancel_requested: bool | None = None
    is_waiting: bool = False
    is_active: bool = False
    runs_only: bool = False
    visible_only: bool = False
    prefix: str | None = None
    header: tuple[str, str] | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    failed_with: str | None = None
    parent: str | None = None
    ended_for_ms: int | None = None
    newest_first: bool = False
    most_examined: int | None = None


class RowPage(NamedTuple):
    """Some rows, and where the next page begins; None on the last one."""

    rows: list[JobRow]
    next_cursor: str | None


class Reads(Protocol):
    """What a store tells without changing anything; each answer is of one moment."""

    def get(self, job_id: str, *, with_payload: bool = True) -> JobRow | None:
        """Return the job, or None; else without a large payload and result, which are then empty."""
        ...

    def ended(self, job_ids: Collection[str]) -> set[str]:
        """Return which of some jobs have ended, or are not stored."""
        ...

    def find_run(self, queue: str, run_id: str) -> JobRow | None:
        """Return the active row of a run id, else its newest, visible or not, or None; without large parts."""
        ...

    def page(self, queue: str, which: Filter, limit: int, cursor: str | None, *, with_payload: bool = True) -> RowPage:
        """Return up to ``limit`` rows in the order they were put in, from where ``cursor``, a page's own, says.

        Newest first if the filter says so; ``with_payload`` as for :meth:`get`.

        The order is stable, and a cursor stays good when the row it points at is gone. A row whose commit came after a
        later-numbered one's may be missed by a walk that had passed it.

        Raises:
            ValueError: ``cursor`` is none of this store's.
        """
        ...

    def counts(self) -> dict[str, Counts]:
        """Return every queue's counters."""
        ...

    def history(self, job_id: str) -> list[AttemptRow]:
        """Return a job's ended claims in order: the first 100 and the last 1,000."""
        ...

    def next_work(self, queue: str, *, retries_only: bool = False) -> NextWork:
        """Return whether a claim could succeed now, or in how long; or only of jobs that wait to be retried.

        Decided by the store's clock. Look again now and then: a step of it moves what waits for a wall time.
        """
        ...
