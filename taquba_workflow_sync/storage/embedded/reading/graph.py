"""The graphs of queues, read."""

from __future__ import annotations

import sqlite3

from taquba_workflow_sync.storage.embedded import sql


def graphs(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the graphs by their queues."""
    if connection.execute(sql.HAS_GRAPHS).fetchone() is None:
        return {}
    return dict(connection.execute(sql.GET_GRAPHS).fetchall())
