"""claimed -> claimed, with a longer lease."""

from __future__ import annotations

from collections.abc import Collection

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.fence import row_number


def renew(tx: Transaction, tokens: Collection[str], lease_ms: int) -> tuple[int, frozenset[str]]:
    """Move the end of every held claim among ``tokens`` to ``lease_ms`` from now, in one statement."""
    until = tx.now_ms + lease_ms
    if not tokens:
        return until, frozenset()
    marks = ",".join("?" * len(tokens))
    statement = sql.RENEW.format(seqs=marks, tokens=marks)
    rows = tx.execute(statement, (until, lease_ms, *map(row_number, tokens), *tokens)).fetchall()
    tx.transitions.add("renew")
    return until, frozenset(row[0] for row in rows)
