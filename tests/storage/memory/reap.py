"""claimed -> cancelled, dead or pending, where the claim is abandoned."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from taquba_workflow_sync.storage.port.claim import after_abandonment
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus
from tests.storage.memory import meters
from tests.storage.memory.ending import end
from tests.storage.memory.limiting import go_on
from tests.storage.memory.presence import why_abandoned
from tests.storage.memory.state import Row
from tests.storage.memory.timing import deadline_passed, started
from tests.storage.memory.transaction import Transaction


def reap(tx: Transaction, queue: str, abandoned: Abandoned | None, never_reap: Collection[str]) -> None:
    """Take back what is abandoned in a queue; the attempt counts."""
    for row in tx.state.of_queue(queue, JobStatus.CLAIMED):
        why = _expired(row, tx.now_ms) or why_abandoned(row, abandoned, never_reap)
        if why is not None:
            take_back(tx, row, why)


def _expired(row: Row, now_ms: int) -> str | None:
    """A bare claim is renewed by nobody: its lease alone decides."""
    is_over = row.held is not None and row.held.owner is None and row.held.lease_until_ms <= now_ms
    return "the lease expired" if is_over else None


def take_back_all(tx: Transaction) -> None:
    """Take back every claim of a copy: whoever works on them does so for the store that it was copied from."""
    for row in list(tx.state.rows.values()):
        if row.held is not None:
            take_back(tx, row, "taken over from a backup")


def take_back(tx: Transaction, row: Row, why: str) -> None:
    """End one claim that nobody works on; the attempt counts."""
    row = tx.with_attempt(row, AttemptOutcome.REAPED, why)
    meters.count_reaped(tx, row)
    late = deadline_passed(row, tx.now_ms)
    target = after_abandonment(
        cancel_requested=row.cancel_requested and late is None,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        is_late=late is not None,
    )
    tx.note_taken_back(row, target, why if late is None else late.why)
    if target is not JobStatus.PENDING:
        meters.count_end(tx, row, target, None)
    if target is JobStatus.PENDING:
        tx.put(replace(started(row), status=target, held=None, last_error=why))
        go_on(tx, row.id)
    elif late is not None:
        end(tx, row, target, error=late.why)
    elif target is JobStatus.DEAD:
        end(tx, row, target, error=f"out of attempts ({row.attempts} of {row.max_attempts}): {why}")
    else:
        end(tx, row, target)
