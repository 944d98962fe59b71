"""pending -> claimed, after promoting what is due and taking back what is abandoned in the same lanes."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.settings import CurrentSettings
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.timing import Late, Moment, late_at
from taquba_workflow_sync.storage.port.wait import WaitEnd
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import SETTINGS, TIMING, WAIT
from taquba_workflow_sync.storage.relational.columns import RowCheck
from taquba_workflow_sync.storage.relational.data_errors import Culprit, blaming
from taquba_workflow_sync.storage.relational.overflow import Overflow, is_changed
from taquba_workflow_sync.storage.relational.rows import TakenRow
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import limit as limits
from taquba_workflow_sync.storage.relational.transitions import timing
from taquba_workflow_sync.storage.relational.transitions.enrol import enrol
from taquba_workflow_sync.storage.relational.transitions.late import end_late
from taquba_workflow_sync.storage.relational.transitions.member import is_group_cancelled
from taquba_workflow_sync.storage.relational.transitions.promote import promote
from taquba_workflow_sync.storage.relational.transitions.reap import reap
from taquba_workflow_sync.storage.relational.transitions.settings import current_of
from taquba_workflow_sync.storage.relational.transitions.wait import end as end_wait

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
        end_late(tx, queue)
        promote(tx, queue)
        reap(tx, queue, request.abandoned, request.never_reap)
        most = request.limit - len(claimed)
        if most > 0 and (tx.queue(queue).limited or tx.queue(queue).paused):
            most = limits.claimable(tx, queue, most)
        if most > 0:
            owner = BARE_OWNER if request.is_bare else tx.owner
            claimed += _take(tx, queue, lane, owner, most)
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
    rows = [TakenRow._make(row) for row in found]
    _note_taken(tx, queue, owner, rows)
    if tx.queue(queue).limited:
        limits.claimed(tx, queue, [(row.seq, row.limit_key) for row in rows])
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
            taken = TakenRow._make(row)
            _note_taken(tx, queue, owner, [taken])
            limits.claimed(tx, queue, [(taken.seq, taken.limit_key)])
            claimed.append(_claimed(tx, taken, lane.queue, until))
    return claimed


def _note_taken(tx: Transaction, queue: int, owner: str, rows: Sequence[TakenRow]) -> None:
    """Count what was claimed, and know by whom."""
    tx.transitions.add("claim")
    tx.move(queue, JobStatus.PENDING, JobStatus.CLAIMED, len(rows))
    if tx.owner_number is None and owner != BARE_OWNER:
        enrol(tx)
    for row in rows:
        if row.run_id is None or row.cancel_requested:
            tx.count_special(queue, JobStatus.PENDING, row.run_id, row.cancel_requested, None, -1)
            tx.count_special(queue, JobStatus.CLAIMED, row.run_id, row.cancel_requested, None, 1)


def _in_line(row: TakenRow) -> tuple[int, int]:
    return row.rank, row.place


def _claimed(tx: Transaction, row: TakenRow, queue: str, until: int) -> ClaimedRow:
    if not is_sound(row):
        raise ValueError(f"the stored row {row.seq} is damaged and cannot be claimed")
    payload: object = row.payload
    headers: object = row.headers
    deadline: Moment | None = None
    late: Late | None = None
    settings: CurrentSettings | None = None
    wait: WaitEnd | None = None
    is_asked_to_stop = row.cancel_requested != 0
    if row.belongings:
        if row.belongings & 1 << Overflow.PAYLOAD:
            payload = tx.get_overflow(row.seq, Overflow.PAYLOAD)
        if row.belongings & 1 << Overflow.HEADERS:
            headers = tx.get_overflow(row.seq, Overflow.HEADERS)
        is_asked_to_stop = is_asked_to_stop or is_group_cancelled(tx, row.seq, row.belongings)
        if row.belongings & TIMING:
            ends = timing.begin_claim(tx, row.seq, row.belongings)
            deadline, late = tx.wall_moment(ends.deadline_ms), late_at(tx.now_ms, ends)
        if row.belongings & SETTINGS:
            settings = current_of(tx.execute, row.seq)
    damage = None
    # A row that was damaged (by hand, by a disk) is claimed like any other and then dead-lettered, never skipped over.
    if type(payload) is not bytes or type(headers) is not str:
        damage = "the stored row is damaged: its payload or its headers are missing, unreadable or of another type"
    elif is_changed(payload, row.payload_crc) or is_changed(headers, row.headers_crc) or _is_other_input(row, payload):
        damage = (
            "the stored row is damaged: its payload or its headers are not what was stored (their checksum differs)"
        )
    if row.belongings & WAIT and damage is None:
        try:
            wait = end_wait(tx, row.seq, row.id)
        except StorageError as error:
            damage = f"the stored row is damaged: {error}"
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
        cancel_requested=is_asked_to_stop,
        run_id=row.run_id,
        enqueued_ms=row.enqueued_ms,
        run_at_ms=row.run_at_ms,
        last_error=row.last_error,
        queue=queue,
        claimed_ms=tx.now_ms,
        lease_until_ms=until,
        place=row.place,
        rank=row.rank,
        damage=damage,
        wait=wait,
        deadline=deadline,
        step_end=None if settings is None else tx.moment_after(settings.step_timeout_ms),
        late=late,
        settings=settings,
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
    taken = TakenRow._make(row)
    _note_taken(tx, queue, tx.owner, [taken])
    return _claimed(tx, taken, queue_name, until)
