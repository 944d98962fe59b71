"""claimed -> cancelled, dead or pending, where the claim is abandoned."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.embedded.transitions.end import end
from taquba_workflow_sync.storage.embedded.transitions.fence import Held, row_number
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus

REAP_LIMIT: Final = 500


def reap(tx: Transaction, queue: int, abandoned: Abandoned, running: Collection[str]) -> None:
    """claimed -> cancelled, dead or pending, where the claim is dead and its step does not run in this process."""
    found = tx.execute(sql.EXPIRED_BARE, (tx.now_ms, queue, REAP_LIMIT)).fetchall()
    why = "the lease expired"
    for seq, job_id, token in found:
        _take_back(tx, seq, job_id, token, why)
    for owner in abandoned.owners:
        for seq, job_id, token in tx.execute(sql.CLAIMS_OF_OWNER, (owner, queue, REAP_LIMIT)).fetchall():
            if token not in running:
                _take_back(tx, seq, job_id, token, "the process that ran it died")
    for token, lease_until_ms in abandoned.tokens.items():
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
