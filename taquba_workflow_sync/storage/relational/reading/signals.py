"""The signals of runs, read."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.signals import StoredSignal
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.signals import stored_signal


def signals(connection: Connection, job_id: str) -> list[StoredSignal]:
    """Return what a job has not used up, the oldest first.

    Raises:
        StorageError: one of them is damaged.
    """
    return [stored_signal(job_id, seq, row) for seq, *row in connection.execute(sql.SIGNALS_OF, (job_id,))]
