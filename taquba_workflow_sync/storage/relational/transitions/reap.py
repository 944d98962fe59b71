"""claimed -> cancelled, dead or pending, where the claim is abandoned."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from taquba_workflow_sync.storage.port.claim import after_abandonment
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.data_errors import Culprit, blaming
from taquba_workflow_sync.storage.relational.presence import Evidence
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import meter, timing
from taquba_workflow_sync.storage.relational.transitions.end import Ended, end
from taquba_workflow_sync.storage.relational.transitions.fence import leave, read_held, row_number
from taquba_workflow_sync.storage.relational.transitions.line import go_on
from taquba_workflow_sync.storage.relational.transitions.member import is_asked_to_stop
from taquba_workflow_sync.storage.relational.transitions.taken_back import note

REAP_LIMIT: Final = 500


def evidence_of(abandoned: Abandoned | None) -> Evidence | None:
    """Return evidence as this engine made it.

    Raises:
        TypeError: another engine made it.
    """
    if abandoned is None or isinstance(abandoned, Evidence):
        return abandoned
    raise TypeError(f"evidence must be what abandoned_claims of this store returned, not {type(abandoned).__name__}")


def reap(tx: Transaction, queue: int, abandoned: Abandoned | None, never_reap: Collection[str]) -> None:
    """claimed -> cancelled, dead or pending, where the claim is abandoned and its step does not run in this process."""
    for job_id, token in tx.execute(
        tx.unreadable.pass_over(sql.EXPIRED_BARE), (tx.now_ms, queue, REAP_LIMIT)
    ).fetchall():
        take_back(tx, job_id, token, "the lease expired")
    evidence = evidence_of(abandoned)
    if evidence is None:
        return
    for owner in evidence.owners:
        for job_id, token in tx.execute(
            tx.unreadable.pass_over(sql.CLAIMS_OF_OWNER), (owner, queue, REAP_LIMIT)
        ).fetchall():
            if token not in never_reap:
                take_back(tx, job_id, token, "the process that ran it died")
    for token, lease_until_ms in evidence.tokens.items():
        if token in never_reap or row_number(token) in tx.unreadable:
            continue
        row = tx.execute(sql.CLAIM_OF_TOKEN, (row_number(token), token, queue, lease_until_ms)).fetchone()
        if row is not None:
            job_id, owner = row
            is_own = owner == tx.owner
            take_back(
                tx, job_id, token,
                "its end could not be stored" if is_own else "the process that ran it stopped renewing its lease",
            )  # fmt: skip


def take_back(tx: Transaction, job_id: str, token: str, why: str) -> None:
    """End one claim that nobody works on any more."""
    with blaming(Culprit(row_number(token))):
        _take_back(tx, job_id, token, why)


def _take_back(tx: Transaction, job_id: str, token: str, why: str) -> None:
    held = read_held(tx, job_id, token)
    claim = Ended("reap", token, AttemptOutcome.REAPED, why)
    is_asked = is_asked_to_stop(tx, held)
    late = None if is_asked else timing.late(tx, held)
    target = after_abandonment(
        cancel_requested=is_asked,
        attempts=held.attempts,
        max_attempts=held.max_attempts,
        is_late=late is not None,
    )
    note(tx, held, target, why if late is None else late.why)
    if target is JobStatus.PENDING:
        leave(tx, "reap", sql.REAP, (why,), held, token)
        tx.move_row(held, target)
        tx.record_attempt(held, claim.outcome, why)
        timing.wait(tx, held)
        go_on(tx, held, target)
    elif late is not None:
        end(tx, held, target, claim, error=late.why)
    elif target is JobStatus.DEAD:
        end(tx, held, target, claim, error=f"out of attempts ({held.attempts} of {held.max_attempts}): {why}")
    else:
        end(tx, held, target, claim)
    meter.count_reaped(tx, held)
