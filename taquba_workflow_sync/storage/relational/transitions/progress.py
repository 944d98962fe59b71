"""claimed -> claimed: what steps say of how far they are."""

from __future__ import annotations

from collections.abc import Sequence

from taquba_workflow_sync.storage.port.progress import ProgressReport
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.fence import row_number


def report(tx: Transaction, reports: Sequence[ProgressReport]) -> None:
    """Store what is said under claims that hold; the others' is nothing."""
    for job_id, token, done, total, note in reports:
        seq = row_number(token)
        held = tx.execute(sql.FENCED_PROGRESS, (seq, job_id, token)).fetchone()
        if held is None:
            continue
        tx.transitions.add("progress")
        tx.execute(sql.PUT_PROGRESS, (seq, token, done, total, note, tx.now_ms))
        if not held[0] & Belonging.PROGRESS:
            tx.execute(sql.OWN_BELONGINGS, (Belonging.PROGRESS, seq))
