"""What is done to many runs, and how many there are; counted by looking, which an engine in earnest must not."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from taquba_workflow_sync.errors import InvalidStateError, JobNotFoundError
from taquba_workflow_sync.storage.port.cancellation import CancelOutcome
from taquba_workflow_sync.storage.port.operators import MOST_ROWS, Piece
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.progress import Progress, ProgressReport
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.run import terminal_status
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.tally import Tally
from tests.storage.memory import groups, jobs, reads
from tests.storage.memory.cancelling import cancel
from tests.storage.memory.state import Row, State
from tests.storage.memory.transaction import Transaction


def tally(state: State, queue: str) -> Tally:
    """Count the runs of a queue by what they show."""
    return Tally(**Counter(_shows(row) for row in state.of_queue(queue) if row.run is not None))


def _shows(row: Row) -> str:
    if row.finished_ms is not None:
        return terminal_status(row.status, row.verdict).value
    if row.cancel_requested:
        return "cancelling"
    return "running" if row.status is JobStatus.CLAIMED else "pending"


def cancel_some(
    tx: Transaction,
    queue: str,
    which: Filter,
    cursor: str | None,
    reason: str | None,
    abandoned: Abandoned | None,
    never_reap: Collection[str],
) -> Piece:
    """Cancel a page of runs."""
    page = reads.page(tx.state, tx.now_ms, queue, which, MOST_ROWS, cursor)
    done = [cancel(tx, row.id, abandoned, never_reap, None, reason) for row in page.rows]
    tokens = [each.token for each in done if each.token is not None]
    return Piece(sum(each.outcome is not CancelOutcome.NOT_FOUND for each in done), tokens, page.next_cursor)


def retry_some(tx: Transaction, queue: str, which: Filter, cursor: str | None) -> Piece:
    """Retry the newest of each name in a page of runs."""
    page = reads.page(tx.state, tx.now_ms, queue, which, MOST_ROWS, cursor)
    changed = 0
    for row in page.rows:
        assert row.run_id is not None
        newest = jobs.newest_of_run(tx, queue, row.run_id)
        if newest is not None and newest.id == row.id:
            with contextlib.suppress(InvalidStateError, JobNotFoundError):
                jobs.requeue(tx, row.id, failed_run=True)
                changed += 1
    return Piece(changed, [], page.next_cursor)


def remove(tx: Transaction, job_id: str) -> None:
    """Remove a dead job."""
    row = tx.state.rows.get(job_id)
    if row is None:
        raise JobNotFoundError(f"there is no job {job_id!r}")
    if row.status is not JobStatus.DEAD or row.group is not None:
        raise InvalidStateError(f"job {job_id} is {row.status}, or a member of a group")
    groups.leave(tx, row)
    tx.drop(row)


def remove_some(tx: Transaction, queue: str, which: Filter, cursor: str | None) -> Piece:
    """Remove a page of what has ended."""
    page = reads.page(tx.state, tx.now_ms, queue, which, MOST_ROWS, cursor)
    found = [tx.state.rows[each.id] for each in page.rows]
    ended = [row for row in found if row.finished_ms is not None and row.group is None]
    for row in ended:
        groups.leave(tx, row)
        tx.drop(row)
    return Piece(len(ended), [], page.next_cursor)


def report_progress(tx: Transaction, reports: Collection[ProgressReport]) -> None:
    """Note what is said under claims that hold."""
    for report in reports:
        row = tx.state.rows.get(report.job_id)
        if row is not None and row.held is not None and row.held.token == report.token:
            said = Progress(report.done, report.total, report.note, tx.now_ms)
            tx.put(replace(row, progress=(report.token, said)))
