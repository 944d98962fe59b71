"""Whose children runs are, read."""

from __future__ import annotations

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import CHILD, PARENT
from taquba_workflow_sync.storage.relational.connection import Connection


def parent_of(connection: Connection, seq: int, belongings: int) -> str | None:
    """Return the run id of the parent of a row."""
    if not belongings & CHILD:
        return None
    found = connection.execute(sql.PARENT_OF, (seq,)).fetchone()
    return None if found is None else str(found[0])


def children_of(connection: Connection, seq: int, belongings: int) -> int:
    """Return how many a row has spawned."""
    if not belongings & PARENT:
        return 0
    found = connection.execute(sql.CHILDREN_OF, (seq,)).fetchone()
    return 0 if found is None else int(found[0] or 0)


def parent_called(connection: Connection, name: str) -> int:
    """Return the number of the row that has spawned others, by its job id or its newest run id; 0: there is none."""
    for statement in (sql.PARENTS_OF_ID, sql.PARENTS_OF_RUN):
        found = connection.execute(statement, (name,)).fetchone()
        if found is not None:
            return int(found[0])
    return 0
