"""scheduled, due -> pending."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.port.status import JobStatus

# Bounds of one transaction: 500,000 due rows promoted at once held the write lock for 1.9 s.
PROMOTE_LIMIT: Final = 500


def promote(tx: Transaction, queue: int) -> int:
    """scheduled, due -> pending, each at its place in line; once in a transaction, whose time stands still."""
    if queue in tx.promoted:
        return 0
    tx.promoted.add(queue)
    promoted = tx.execute(
        tx.unreadable.pass_over(sql.PROMOTE), (queue, tx.now_ms, queue, tx.boot_ms, PROMOTE_LIMIT)
    ).rowcount
    if promoted:
        tx.transitions.add("promote")
        tx.move(queue, JobStatus.SCHEDULED, JobStatus.PENDING, promoted)
    return promoted
