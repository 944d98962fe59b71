"""pending -> claimed, after promoting what is due and taking back what is abandoned; and longer leases."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.timing import Moment, late_at
from tests.storage.memory import groups
from tests.storage.memory.late import end_late
from tests.storage.memory.limiting import claimable, note, promoted
from tests.storage.memory.reap import reap
from tests.storage.memory.settings import has_plain_steps
from tests.storage.memory.state import Held, Row
from tests.storage.memory.transaction import Transaction

_PROMOTE_LIMIT: Final = 500


def claim(tx: Transaction, request: ClaimRequest) -> list[ClaimedRow]:
    """Claim up to the request's limit, lane by lane."""
    claimed: list[ClaimedRow] = []
    tx.taken_back = request.taken_back
    for lane in request.lanes:
        end_late(tx, lane.queue)
        promote(tx, lane.queue)
        reap(tx, lane.queue, request.abandoned, request.never_reap)
        pending = [row for row in tx.state.of_queue(lane.queue, JobStatus.PENDING) if not row.parked]
        line = sorted(pending, key=lambda row: (row.rank, row.place))
        for row in line[: claimable(tx, lane.queue, max(request.limit - len(claimed), 0))]:
            claimed.append(claim_row(tx, row, None if request.is_bare else tx.owner, lane.lease_ms))
    tx.taken_back = None
    return claimed


def promote(tx: Transaction, queue: str) -> None:
    """scheduled, due -> pending, each at its place in line."""
    due: list[tuple[int, Row]] = []
    for row in tx.state.of_queue(queue, JobStatus.SCHEDULED):
        if row.due_ms is not None and row.due_ms <= tx.now_ms:
            due.append((row.due_ms, row))
    for _, row in sorted(due, key=lambda each: each[0])[:_PROMOTE_LIMIT]:
        tx.put(replace(row, status=JobStatus.PENDING, due_ms=None))
    if due or any(name == queue for name, _ in tx.state.limits) or queue in tx.state.unsettled:
        promoted(
            tx, queue, [tx.state.rows[row.id] for _, row in sorted(due, key=lambda each: each[0])[:_PROMOTE_LIMIT]]
        )


def claim_row(tx: Transaction, row: Row, owner: str | None, lease_ms: int) -> ClaimedRow:
    """Claim one row that waits in line."""
    if owner is not None:
        tx.state.enrolled.add(owner)
    held = Held(secrets.token_hex(12), owner, tx.now_ms + lease_ms, lease_ms)
    row = replace(
        row,
        status=JobStatus.CLAIMED,
        held=held,
        attempts=row.attempts + 1,
        ordinal=row.ordinal + 1,
        claimed_ms=tx.now_ms,
        dedup_key=None,
    )
    row, wait_end = groups.fix(tx, row)
    tx.put(row)
    note(tx, row)
    return ClaimedRow(
        id=row.id,
        token=held.token,
        step=row.step,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        payload=row.payload,
        headers=row.headers,
        priority=row.priority,
        cancel_requested=row.cancel_requested,
        run_id=row.run_id,
        enqueued_ms=row.enqueued_ms,
        run_at_ms=row.run_at_ms,
        last_error=row.last_error,
        queue=row.queue,
        claimed_ms=tx.now_ms,
        lease_until_ms=held.lease_until_ms,
        place=row.place,
        rank=row.rank,
        wait=wait_end,
        deadline=None if row.ends.deadline_ms is None else Moment(0, row.ends.deadline_ms),
        step_end=None if row.given.step_timeout_ms is None else Moment(0, tx.now_ms + row.given.step_timeout_ms),
        late=late_at(tx.now_ms, row.ends),
        settings=None if has_plain_steps(row) else row.given,
    )


def renew(tx: Transaction, tokens: Collection[str], lease_ms: int) -> tuple[int, frozenset[str]]:
    """Have the leases of ``tokens`` end ``lease_ms`` from now."""
    until, wanted = tx.now_ms + lease_ms, frozenset(tokens)
    renewed: set[str] = set()
    for row in list(tx.state.rows.values()):
        if row.held is not None and row.held.token in wanted:
            tx.put(replace(row, held=replace(row.held, lease_until_ms=until, lease_ms=lease_ms)))
            renewed.add(row.held.token)
    return until, frozenset(renewed)
