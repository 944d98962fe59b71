"""Who works: a number for each handle that does, by which the history names its process."""

from __future__ import annotations

import os
from typing import Final

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.transaction import Transaction

#: The most handles that are known by number; a cron job that opens the store each minute makes so many in ten weeks.
MOST_OWNERS: Final = 100_000


def enrol_idle(tx: Transaction) -> None:
    """Have a number for this handle before it has claimed anything."""
    tx.transitions.add("enrol")
    enrol(tx)


def enrol(tx: Transaction) -> None:
    """Have a number for this handle, which works; the oldest of very many goes for it."""
    if tx.owner_number is not None:
        return
    added = tx.execute(sql.ENROL, (tx.owner, os.uname().nodename, os.getpid())).rowcount
    (number,) = tx.execute(sql.OWNER_NUMBER, (tx.owner,)).fetchone()
    tx.owner_number = number
    if added:
        tx.execute(sql.FORGET_OWNER, (number - MOST_OWNERS,))
