"""What of a group its members, and who waits for it, are asked."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.retention import SHORTEST_RETENTION_MS
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import MEMBER
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.rows import GroupState, StoredGroup


def find(connection: Connection, name: str) -> StoredGroup | None:
    """Return a group that is there for everyone."""
    found = connection.execute(sql.FIND_GROUP, (name,)).fetchone()
    group = None if found is None else StoredGroup._make(found)
    return group if group is not None and group.state == GroupState.OPEN else None


def has_ended(connection: Connection, name: str) -> bool:
    """Whether a group has ended, or is not stored."""
    group = find(connection, name)
    return group is None or group.has_ended


def is_kept(connection: Connection, seq: int, belongings: int, now_ms: int) -> bool:
    """Whether a row is a member of a group whose members are shown."""
    if not belongings & MEMBER:
        return False
    return connection.execute(sql.MEMBER_IS_KEPT, (seq, SHORTEST_RETENTION_MS, now_ms)).fetchone() is not None
