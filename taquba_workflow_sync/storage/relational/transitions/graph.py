"""What a queue's runs go through, registered."""

from __future__ import annotations

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.transaction import Transaction


def put_graph(tx: Transaction, queue: str, text: str) -> None:
    """Have a queue's graph be this."""
    tx.execute(sql.MAKE_GRAPHS)
    tx.execute(sql.PUT_GRAPH, (queue, text))
