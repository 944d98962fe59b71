"""What becomes of what belongs to a row as the row moves: a line for each kind."""

from __future__ import annotations

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import OF_STEP, Belonging
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import child, event, memo, settings, signals, timing, trace
from taquba_workflow_sync.storage.relational.transitions.wait import leave_group


def after_step(belongings: int) -> int:
    """Return what a row has once its step has ended well: by an advance, a success, a cancellation."""
    return belongings & ~OF_STEP


def end_step(tx: Transaction, seq: int, belongings: int) -> None:
    """Have what belonged to a step go, which has ended well; it is invisible from this commit on."""
    if not belongings & OF_STEP:
        return
    if belongings & Belonging.STEP_MEMO:
        memo.discard_step(tx, seq)
    if belongings & Belonging.REFUSED:
        tx.execute(sql.DROP_REFUSALS, (seq,))
    if belongings & Belonging.WAIT:
        signals.end_wait(tx, seq)
        leave_group(tx, seq)


def drop(tx: Transaction, seq: int, belongings: int) -> None:
    """Delete what a deleted row has left; what may be many rows is noted, and goes in pieces."""
    tx.drop_belongings(seq, belongings)
    if belongings & (Belonging.STEP_MEMO | Belonging.RUN_MEMO):
        memo.discard_all(tx, seq)
    if belongings & Belonging.REFUSED:
        tx.execute(sql.DROP_REFUSALS, (seq,))
    if belongings & Belonging.WAIT:
        tx.execute(sql.DROP_WAIT, (seq,))
        leave_group(tx, seq)
    if belongings & Belonging.SIGNALS:
        signals.discard_all(tx, seq)
    if belongings & Belonging.TIMING:
        timing.drop(tx, seq)
    if belongings & Belonging.SETTINGS:
        settings.drop(tx, seq)
    if belongings & Belonging.EVENTS:
        event.discard_events(tx, seq)
    if belongings & Belonging.TRACES:
        trace.discard_traces(tx, seq)
    if belongings & Belonging.PROGRESS:
        tx.execute(sql.DROP_PROGRESS, (seq,))
    if belongings & Belonging.MEMBER:
        tx.execute(sql.DROP_MEMBER, (seq,))
    if belongings & (Belonging.CHILD | Belonging.PARENT):
        child.drop(tx, seq, belongings)
