"""done, dead, cancelled -> gone."""

from __future__ import annotations

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.port.job import SWEEP_LIMIT
from taquba_workflow_sync.storage.port.status import JobStatus


def sweep(tx: Transaction) -> int:
    """Remove finished rows past the retention frozen on them."""
    rows = tx.execute(sql.EXPIRED, (tx.now_ms, SWEEP_LIMIT)).fetchall()
    if rows:
        tx.transitions.add("sweep")
    for seq, queue, status, wide in rows:
        tx.drop_row(seq, wide)
        if status == JobStatus.DEAD:
            tx.count(queue, JobStatus.DEAD, -1)
    return len(rows)
