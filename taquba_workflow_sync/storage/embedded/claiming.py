"""pending -> claimed, after promoting what is due and taking back what is dead in the same lanes; renewals."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Final

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.damage import is_sound_claim
from taquba_workflow_sync.storage.embedded.settling import Held, end, row_number
from taquba_workflow_sync.storage.embedded.transaction import Part, Transaction
from taquba_workflow_sync.storage.records import (
    AttemptOutcome,
    ClaimedRow,
    ClaimRequest,
    Deaths,
    JobStatus,
    LaneClaim,
)

# Bounds of one transaction: 500,000 due rows promoted at once held the write lock for 1.9 s.
PROMOTE_LIMIT: Final = 500
REAP_LIMIT: Final = 500
BARE_OWNER: Final = ""


def claim(tx: Transaction, request: ClaimRequest, running: Collection[str]) -> list[ClaimedRow]:
    """Claim up to the request's limit; ``running`` are the tokens whose steps run in this process."""
    claimed: list[ClaimedRow] = []
    for lane in request.lanes:
        queue = tx.find_queue(lane.queue)
        if queue is None:
            continue
        promote(tx, queue)
        reap(tx, queue, request.deaths, running)
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
        if wide & 1 << Part.PAYLOAD:
            fields[6] = tx.get_part(seq, Part.PAYLOAD)
        if wide & 1 << Part.HEADERS:
            fields[7] = tx.get_part(seq, Part.HEADERS)
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


def promote(tx: Transaction, queue: int) -> int:
    """scheduled, due -> pending, each at its place in line."""
    promoted = tx.execute(sql.PROMOTE, (queue, tx.now_ms, queue, tx.steady_ms, PROMOTE_LIMIT)).rowcount
    if promoted:
        tx.transitions.add("promote")
        tx.move(queue, JobStatus.SCHEDULED, JobStatus.PENDING, promoted)
    return promoted


def reap(tx: Transaction, queue: int, deaths: Deaths, running: Collection[str]) -> None:
    """claimed -> cancelled, dead or pending, where the claim is dead and its step does not run in this process."""
    found = tx.execute(sql.EXPIRED_BARE, (tx.now_ms, queue, REAP_LIMIT)).fetchall()
    why = "the lease expired"
    for seq, job_id, token in found:
        _take_back(tx, seq, job_id, token, why)
    for owner in deaths.owners:
        for seq, job_id, token in tx.execute(sql.CLAIMS_OF_OWNER, (owner, queue, REAP_LIMIT)).fetchall():
            if token not in running:
                _take_back(tx, seq, job_id, token, "the process that ran it died")
    for token, lease_until_ms in deaths.tokens.items():
        row = tx.execute(sql.CLAIM_OF_TOKEN, (row_number(token), token, queue, lease_until_ms)).fetchone()
        if row is not None and token not in running:
            _take_back(tx, row[0], row[1], token, "the process that ran it stopped renewing its lease")


def _take_back(tx: Transaction, seq: int, job_id: str, token: str, why: str) -> None:
    row = tx.execute(sql.FENCED, (seq, job_id, token)).fetchone()
    if row is None:
        return
    tx.transitions.add("reap")
    held = Held._make(row)
    max_attempts = tx.execute(sql.MAX_ATTEMPTS, (seq,)).fetchone()[0]
    tx.record_attempt(seq, held.ordinal, held.step, held.attempts, held.claimed_ms, AttemptOutcome.REAPED, why)
    if held.cancel_requested:
        end(tx, held, JobStatus.CLAIMED, JobStatus.CANCELLED)
    elif held.attempts >= max_attempts:
        error = f"out of attempts ({held.attempts} of {max_attempts}): {why}"
        end(tx, held, JobStatus.CLAIMED, JobStatus.DEAD, error=error)
    else:
        tx.execute(sql.REAP, (why, seq, token))
        tx.move(held.queue, JobStatus.CLAIMED, JobStatus.PENDING)


def renew(tx: Transaction, tokens: Collection[str], lease_ms: int) -> tuple[int, frozenset[str]]:
    """Move the end of every held claim among ``tokens`` to ``lease_ms`` from now, in one statement."""
    until = tx.now_ms + lease_ms
    if not tokens:
        return until, frozenset()
    marks = ",".join("?" * len(tokens))
    statement = sql.RENEW.format(seqs=marks, tokens=marks)
    rows = tx.execute(statement, (until, lease_ms, *map(row_number, tokens), *tokens)).fetchall()
    tx.transitions.add("renew")
    return until, frozenset(row[0] for row in rows)
