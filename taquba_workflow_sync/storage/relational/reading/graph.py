"""The graphs of queues, read."""

from __future__ import annotations

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection


def graphs(connection: Connection) -> dict[str, str]:
    """Return the graphs by their queues."""
    if connection.execute(sql.HAS_GRAPHS).fetchone() is None:
        return {}
    return dict(connection.execute(sql.GET_GRAPHS).fetchall())
