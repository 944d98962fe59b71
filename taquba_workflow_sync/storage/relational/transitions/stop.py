"""claimed: asked to stop."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.port.texts import storable_error
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import TIMING
from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import timing
from taquba_workflow_sync.storage.relational.transitions.event import note_event


def ask_to_stop(tx: Transaction, held: Held, reason: str | None = None) -> None:
    """Flag a claim, so that its step is told, whoever asks; the first reason stays."""
    tx.execute(sql.REQUEST_CANCEL, (storable_error(reason), held.seq))
    if not held.cancel_requested and held.run_id is not None:
        tx.count(held.queue, "cancelling", 1)


def request_cancel(tx: Transaction, held: Held, reason: str | None = None) -> None:
    """Have a claimed row end as cancelled: its step sees it, and its settlement."""
    tx.transitions.add("request_cancel")
    ask_to_stop(tx, held, reason)
    if held.run_id is not None and (not held.cancel_requested or timing.is_asked_for_deadline(tx, held)):
        note_event(tx, held.seq, EventKind.CANCEL_REQUESTED, reason)
    if held.belongings & TIMING:
        timing.stop(tx, held.seq, is_late=False)  # it goes before the deadline
