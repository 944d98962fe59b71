"""pending -> claimed, after promoting what is due and taking back what is abandoned in the same lanes."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Final

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.overflow import Overflow
from taquba_workflow_sync.storage.embedded.repair.invalid import is_sound_claim
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.embedded.transitions.promote import promote
from taquba_workflow_sync.storage.embedded.transitions.reap import reap
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.status import JobStatus

BARE_OWNER: Final = ""


def claim(tx: Transaction, request: ClaimRequest, running: Collection[str]) -> list[ClaimedRow]:
    """Claim up to the request's limit; ``running`` are the tokens whose steps run in this process."""
    claimed: list[ClaimedRow] = []
    for lane in request.lanes:
        queue = tx.find_queue(lane.queue)
        if queue is None:
            continue
        promote(tx, queue)
        reap(tx, queue, request.abandoned, running)
        if len(claimed) < request.limit:
            owner = BARE_OWNER if request.is_bare else tx.owner
            claimed += _take(tx, queue, lane, owner, request.limit - len(claimed))
    return claimed


def _take(tx: Transaction, queue: int, lane: LaneClaim, owner: str, limit: int) -> list[ClaimedRow]:
    until = tx.now_ms + lane.lease_ms
    rows = tx.execute(
        sql.CLAIM, (f"{secrets.token_hex(6)}.", owner, tx.now_ms, until, lane.lease_ms, queue, limit)
    ).fetchall()
    if not rows:
        return []
    tx.transitions.add("claim")
    tx.move(queue, JobStatus.PENDING, JobStatus.CLAIMED, len(rows))
    # RETURNING promises no order: the line's order is made here.
    claimed = [_claimed(tx, row, lane.queue, until) for row in rows]
    claimed.sort(key=lambda row: (row.priority, row.place))
    return claimed


def _claimed(tx: Transaction, row: tuple[object, ...], queue: str, until: int) -> ClaimedRow:
    *fields, seq, wide = row
    if wide:
        if type(seq) is not int or type(wide) is not int:
            raise ValueError(f"the stored row {seq} is damaged and cannot be claimed")
        if wide & 1 << Overflow.PAYLOAD:
            fields[6] = tx.get_overflow(seq, Overflow.PAYLOAD)
        if wide & 1 << Overflow.HEADERS:
            fields[7] = tx.get_overflow(seq, Overflow.HEADERS)
    damage = None
    # A row that was damaged (by hand, by a disk) is claimed like any other and then dead-lettered, never skipped over.
    if type(fields[6]) is not bytes or type(fields[7]) is not str:
        damage = "the stored row is damaged: its payload or its headers are missing or of another type"
        fields[6], fields[7] = b"", ""
    if not is_sound_claim(fields):
        raise ValueError(f"the stored row {seq} is damaged and cannot be claimed")
    return ClaimedRow._make((*fields, queue, tx.now_ms, until, damage))


def claim_one(tx: Transaction, job_id: str, queue_name: str, lease_ms: int) -> ClaimedRow | None:
    """Claim a job that was inserted in this very transaction."""
    queue = tx.find_queue(queue_name)
    until = tx.now_ms + lease_ms
    token = f"{secrets.token_hex(6)}."
    row = tx.execute(sql.CLAIM_ONE, (token, tx.owner, tx.now_ms, until, lease_ms, job_id)).fetchone()
    if row is None or queue is None:
        return None
    tx.transitions.add("claim")
    tx.move(queue, JobStatus.PENDING, JobStatus.CLAIMED)
    return _claimed(tx, row, queue_name, until)
