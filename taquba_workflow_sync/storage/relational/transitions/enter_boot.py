"""The machine started anew: what waits for a time on its old clock goes by the wall clock."""

from __future__ import annotations

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.transaction import Transaction


def is_of_boot(connection: Connection, boot: int) -> bool:
    """Whether every due time by the boot clock was read in this boot of the machine."""
    row = connection.execute(sql.READ_META, ("boot",)).fetchone()
    return boot != 0 and row is not None and row[0] == boot


def enter_boot(tx: Transaction, boot: int) -> None:
    """Have delays that another boot began go by the wall clock, and note this one; 0: it has no such clock.

    All at once: half a million of them take three seconds, once after a boot.
    """
    if boot and is_of_boot(tx.connection, boot):
        return
    tx.transitions.add("enter_boot")
    tx.execute(sql.LEAVE_BOOT_CLOCK)
    tx.execute(sql.LEAVE_BOOT_REFILLS)
    if boot:
        tx.execute(sql.WRITE_META, ("boot", boot))
