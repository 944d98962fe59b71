"""What callers see of runs: frozen values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from taquba_workflow_sync.clock import from_ms, maybe_from_ms
from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.outcome import RunOutcome, TerminalStatus
from taquba_workflow_sync.storage.port.headers import decode_headers
from taquba_workflow_sync.storage.port.job import JobRow
from taquba_workflow_sync.storage.port.run import terminal_status
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.texts import readable_error
from taquba_workflow_sync.storage.port.wait import waiting_for
from taquba_workflow_sync.workflow.progress import RunProgress, progress_of


class RunState(enum.StrEnum):
    """Where a run stands: waiting for its next step, in a step, asked to stop in a step, or ended."""

    PENDING = "pending"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run as it was when it was read. Times are aware, in UTC.

    ``attempts`` counts the claims of the current step. ``error`` is the last failed attempt's, or the final one.
    ``waiting_for`` says what keeps a pending run from its next step: ``"time"`` (a delay, ``run_at``, a backoff),
    ``"signal:<name>"``, ``"group:<id>"`` or ``"limit:<key>"``; None when it is in line, runs or has ended. ``label`` is
    what the current step was called. ``overdue``: its step runs for longer than its step timeout. ``progress`` is what
    it has said of how far it is. ``parent``: the run id of the run that has spawned it; ``children``: how many it has
    spawned.
    """

    run_id: str
    job_id: str
    state: RunState
    current_step: int
    attempts: int
    submitted_at: datetime
    finished_at: datetime | None
    headers: dict[str, str]
    error: str | None
    waiting_for: str | None = None
    label: str | None = None
    overdue: bool = False
    progress: RunProgress | None = None
    parent: str | None = None
    children: int = 0


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs in the order they were submitted, or the other way round; ``next_cursor`` is None on the last page.

    A page may be short, or empty, and lead on all the same: a call looks at so many runs and no more.
    """

    runs: list[RunStatus]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class RunCounts:
    """What ``run_until_idle`` did (runs ended, steps executed) and what it left.

    ``scheduled``: runs that wait for a later time, or for a signal. ``elsewhere``: steps that other processes run.
    ``dead``: dead letters kept in the queue.
    """

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    steps: int = 0
    scheduled: int = 0
    elsewhere: int = 0
    dead: int = 0


def state_of(row: JobRow) -> RunState:
    """Return the state that a stored run shows."""
    if row.status.is_finished:
        return RunState(terminal_status(row.status, row.verdict))
    if row.cancel_requested or row.is_late:
        return RunState.CANCELLING
    return RunState.RUNNING if row.status is JobStatus.CLAIMED else RunState.PENDING


def status_of(row: JobRow) -> RunStatus:
    """Return the status of a stored run."""
    assert row.run_id is not None
    return RunStatus(
        run_id=row.run_id,
        job_id=row.id,
        state=state_of(row),
        current_step=row.step,
        attempts=row.attempts,
        submitted_at=from_ms(row.enqueued_ms),
        finished_at=maybe_from_ms(row.finished_ms),
        headers=decode_headers(row.headers),
        error=row.damage or readable_error(row.last_error),
        waiting_for=waiting_for(row),
        label=row.label,
        overdue=row.is_overdue,
        progress=progress_of(row.progress),
        parent=row.parent,
        children=row.children,
    )


def outcome_of(row: JobRow) -> RunOutcome:
    """Return the outcome of a stored run that has finished.

    Raises:
        StorageError: its result is lost; an empty one would be taken for it.
    """
    assert row.run_id is not None and row.finished_ms is not None
    status = terminal_status(row.status, row.verdict)
    if status is TerminalStatus.SUCCEEDED and row.result is None and row.damage is not None:
        raise StorageError(f"the result of run {row.run_id!r} (job {row.id}) cannot be told: {row.damage}")
    return RunOutcome(
        run_id=row.run_id,
        status=status,
        result=(row.result or b"") if status is TerminalStatus.SUCCEEDED else None,
        error=None if status is TerminalStatus.SUCCEEDED else readable_error(row.last_error),
        headers=decode_headers(row.headers),
        final_step=row.step,
        job_id=row.id,
        termination=row.termination,
        finished_at=from_ms(row.finished_ms),
    )
