"""pending -> claimed, after promoting what is due and taking back what is abandoned in the same lanes."""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Final

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.columns import RowCheck
from taquba_workflow_sync.storage.embedded.overflow import Overflow, is_changed
from taquba_workflow_sync.storage.embedded.rows import TakenRow
from taquba_workflow_sync.storage.embedded.sqlite_errors import Culprit, blaming
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.embedded.transitions.promote import promote
from taquba_workflow_sync.storage.embedded.transitions.reap import reap
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.status import JobStatus

BARE_OWNER: Final = ""
_holds: Final = RowCheck(TakenRow._fields)


def claim(tx: Transaction, request: ClaimRequest) -> list[ClaimedRow]:
    """Claim up to the request's limit, in the order of its lanes and of the line in each."""
    claimed: list[ClaimedRow] = []
    if request.is_spare and request.limit <= 0:
        return claimed
    for lane in request.lanes:
        queue = tx.find_queue(lane.queue)
        if queue is None:
            continue
        promote(tx, queue)
        reap(tx, queue, request.abandoned, request.never_reap)
        if len(claimed) < request.limit:
            owner = BARE_OWNER if request.is_bare else tx.owner
            claimed += _take(tx, queue, lane, owner, request.limit - len(claimed))
    return claimed


def _take(tx: Transaction, queue: int, lane: LaneClaim, owner: str, limit: int) -> list[ClaimedRow]:
    until = tx.now_ms + lane.lease_ms
    if tx.unreadable:
        return _take_singly(tx, queue, lane, owner, limit)
    found = tx.execute(
        sql.CLAIM,
        (f"{secrets.token_hex(6)}.", owner, tx.now_ms, until, lane.lease_ms, queue, limit),
    ).fetchall()
    if not found:
        return []
    tx.transitions.add("claim")
    tx.move(queue, JobStatus.PENDING, JobStatus.CLAIMED, len(found))
    rows = [TakenRow._make(row) for row in found]
    claimed = {row.seq: _claimed(tx, row, lane.queue, until) for row in rows}
    rows.sort(key=_in_line)  # RETURNING promises no order: the line's order is made here
    return [claimed[row.seq] for row in rows]


def _take_singly(tx: Transaction, queue: int, lane: LaneClaim, owner: str, limit: int) -> list[ClaimedRow]:
    """Claim row by row, where pages are damaged: so that the one that cannot be written is known."""
    until = tx.now_ms + lane.lease_ms
    token = f"{secrets.token_hex(6)}."
    claimed: list[ClaimedRow] = []
    for (seq,) in tx.execute(tx.unreadable.pass_over(sql.FIRST_IN_LINE), (queue, limit)).fetchall():
        with blaming(Culprit(seq)):
            row = tx.execute(sql.CLAIM_SEQ, (token, owner, tx.now_ms, until, lane.lease_ms, seq)).fetchone()
        if row is not None:
            tx.transitions.add("claim")
            tx.move(queue, JobStatus.PENDING, JobStatus.CLAIMED)
            claimed.append(_claimed(tx, TakenRow._make(row), lane.queue, until))
    return claimed


def _in_line(row: TakenRow) -> tuple[int, int]:
    return row.priority, row.place


def _claimed(tx: Transaction, row: TakenRow, queue: str, until: int) -> ClaimedRow:
    if not is_sound(row):
        raise ValueError(f"the stored row {row.seq} is damaged and cannot be claimed")
    payload: object = row.payload
    headers: object = row.headers
    if row.overflow:
        if row.overflow & 1 << Overflow.PAYLOAD:
            payload = tx.get_overflow(row.seq, Overflow.PAYLOAD)
        if row.overflow & 1 << Overflow.HEADERS:
            headers = tx.get_overflow(row.seq, Overflow.HEADERS)
    damage = None
    # A row that was damaged (by hand, by a disk) is claimed like any other and then dead-lettered, never skipped over.
    if type(payload) is not bytes or type(headers) is not str:
        damage = "the stored row is damaged: its payload or its headers are missing, unreadable or of another type"
    elif is_changed(payload, row.payload_crc) or is_changed(headers, row.headers_crc) or _is_other_input(row, payload):
        damage = (
            "the stored row is damaged: its payload or its headers are not what was stored (their checksum differs)"
        )
    if damage is not None:
        payload, headers = b"", ""
    assert isinstance(payload, bytes) and isinstance(headers, str)
    return ClaimedRow(
        id=row.id,
        token=row.token,
        step=row.step,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        payload=payload,
        headers=headers,
        priority=row.priority,
        cancel_requested=row.cancel_requested != 0,
        run_id=row.run_id,
        enqueued_ms=row.enqueued_ms,
        run_at_ms=row.run_at_ms,
        last_error=row.last_error,
        queue=queue,
        claimed_ms=tx.now_ms,
        lease_until_ms=until,
        place=row.place,
        damage=damage,
    )


def is_sound(row: TakenRow) -> bool:
    """Whether a row just claimed can be worked on."""
    return _holds(row) and 1 <= row.attempts <= row.max_attempts


def _is_other_input(row: TakenRow, payload: bytes) -> bool:
    """Whether the input of a run that an older version stored is not what its hash says."""
    return (
        row.payload_crc is None
        and row.step == 0
        and row.input_hash is not None
        and sha256(payload).digest() != row.input_hash
    )


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
    return _claimed(tx, TakenRow._make(row), queue_name, until)
