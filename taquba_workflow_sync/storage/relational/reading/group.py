"""Groups, read."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.group import GroupRow
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.reading.member import find
from taquba_workflow_sync.storage.relational.rows import QueueRow


def get(connection: Connection, name: str) -> GroupRow | None:
    """Return a group."""
    group = find(connection, name)
    if group is None:
        return None
    queue = connection.execute(sql.QUEUE_OF, (group.queue,)).fetchone()
    return GroupRow(
        name=name,
        queue="" if queue is None else QueueRow._make(queue).name,
        total=group.total,
        succeeded=group.succeeded,
        failed=group.failed,
        cancelled=group.cancelled,
        is_open=True,
        has_ended=group.has_ended,
        cancel_requested=bool(group.cancel_requested),
    )
