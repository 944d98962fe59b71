"""Whether a move has closed a store: asked at its opening, and by whoever finds a table gone."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from taquba_workflow_sync.errors import StorageError, TaqubaError
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.sqlite_errors import lacks_a_name
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.moved import Move, noted_move, why_closed


def find_move(connection: sqlite3.Connection) -> Move | None:
    """Return the move that a store is a part of."""
    is_there = connection.execute(sql.HAS_MOVE).fetchone() is not None
    return noted_move(connection) if is_there else None


def refuse_if_closed(connection: sqlite3.Connection, store: object) -> None:
    """Refuse to work on a store that is copied, filled or gone.

    Raises:
        StorageError, StoreMovedError: it is.
    """
    refusal = why_closed(find_move(connection), store)
    if refusal is not None:
        raise refusal


def closed_by_move(error: BaseException, connections: Connections) -> TaqubaError | None:
    """Return what to tell instead of an error of a statement whose tables a move has put away; None: it is another."""
    if not lacks_a_name(error):
        return None
    try:
        with closing(connections.open()) as connection:
            return why_closed(find_move(connection), connections.root)
    except (sqlite3.Error, StorageError):
        return None
