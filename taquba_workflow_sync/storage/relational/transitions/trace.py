"""The traceback of an attempt, written with its end; one that did not fail has none, and costs nothing."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.trace import storable_trace
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.transaction import FIRST_ATTEMPTS, LAST_ATTEMPTS, Transaction
from taquba_workflow_sync.storage.relational.transitions.garbage import Kind, discard


def keep(tx: Transaction, held: Held, trace: str | None) -> None:
    """Keep the traceback of the attempt that ends, if it has one; the row is still there."""
    if not trace:
        return
    tx.execute(sql.PUT_TRACE, (held.seq, held.ordinal, storable_trace(trace)))
    tx.execute(sql.OWN_BELONGINGS, (Belonging.TRACES, held.seq))
    if held.ordinal > FIRST_ATTEMPTS + LAST_ATTEMPTS:
        tx.execute(sql.DROP_OLD_TRACES, (held.seq, FIRST_ATTEMPTS, held.ordinal - LAST_ATTEMPTS))


def discard_traces(tx: Transaction, seq: int) -> None:
    """Have the tracebacks of a deleted row go in pieces."""
    discard(tx, Kind.TRACE, seq)
