"""done, dead, cancelled -> gone."""

from __future__ import annotations

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.rows import FinishedRow
from taquba_workflow_sync.storage.embedded.sqlite_errors import Culprit, blaming
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.port.job import SWEEP_LIMIT
from taquba_workflow_sync.storage.port.status import JobStatus


def sweep(tx: Transaction) -> int:
    """Remove finished rows past the retention frozen on them."""
    rows = [
        FinishedRow._make(row)
        for row in tx.execute(tx.unreadable.pass_over(sql.EXPIRED), (tx.now_ms, SWEEP_LIMIT)).fetchall()
    ]
    if rows:
        tx.transitions.add("sweep")
    for row in rows:
        with blaming(Culprit(row.seq)):
            tx.execute(sql.DELETE_FINISHED, (row.seq,))
            tx.drop_belongings(row.seq, row.overflow)
        if row.status == JobStatus.DEAD:
            tx.count(row.queue, JobStatus.DEAD, -1)
    return len(rows)
