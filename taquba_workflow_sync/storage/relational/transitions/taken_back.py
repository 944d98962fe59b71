"""What a claim has taken back or ended on its way, noted for whoever tells of it."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.claim import TakenBack
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.relational.belongings import SETTINGS
from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.settings import current_of


def note(tx: Transaction, held: Held, status: JobStatus, why: str) -> None:
    """Note what has become of a row, if the claim that met it is to tell."""
    if tx.taken_back is None:
        return
    current = current_of(tx.execute, held.seq) if held.belongings & SETTINGS else None
    label = None if current is None else current.label
    queue = tx.queue_name(held.queue)
    tx.taken_back.append(
        TakenBack(held.id, held.run_id, queue, held.step, held.attempts, held.max_attempts, label, status, why)
    )
