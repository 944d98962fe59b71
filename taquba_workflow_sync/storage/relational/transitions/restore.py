"""claimed -> cancelled, dead or pending: the first open of a backup takes back the claims that were copied with it."""

from __future__ import annotations

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.reap import REAP_LIMIT, take_back

#: The key in the meta table that says that a store is a copy which nobody has opened yet.
MARK = "restored"


def is_unopened_copy(connection: Connection) -> bool:
    """Whether the claims in the store are those of the store that it was copied from."""
    return connection.execute(sql.READ_META, (MARK,)).fetchone() is not None


def take_over(tx: Transaction) -> bool:
    """Take back up to 500 claims of each queue, bare ones too, and forget the mark with the last; whether that is all.

    Their owners work on the other store, and may be of another machine: here nobody does.
    """
    taken = 0
    for (queue,) in tx.execute(sql.ALL_QUEUES).fetchall():
        claims = tx.execute(sql.ALL_CLAIMS, (queue, REAP_LIMIT)).fetchall()
        for job_id, token in claims:
            take_back(tx, job_id, token, "taken over from a backup")
        taken += len(claims)
    if not taken:
        tx.execute(sql.DROP_META, (MARK,))
        # A move of the other store waits for claims there: it is none of this one.
        tx.execute(sql.LET_QUEUES_GO)
        tx.execute(sql.DROP_MOVE)
    return not taken
