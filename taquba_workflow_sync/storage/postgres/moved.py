"""Whether a move has closed a store: asked at its opening, and by whoever finds a table gone."""

from __future__ import annotations

import psycopg

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.storage.postgres.address import Address
from taquba_workflow_sync.storage.postgres.sessions import Session
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.moved import Move, noted_move, why_closed


def find_move(session: Session) -> Move | None:
    """Return the move that a store is a part of."""
    name = f'"{session.schema}".{sql.MOVE}'
    ((is_there,),) = session.execute("SELECT to_regclass(?) IS NOT NULL", (name,)).fetchall()
    return noted_move(session) if is_there else None


def refuse_if_closed(session: Session, address: Address) -> None:
    """Refuse to work on a store that is copied, filled or gone.

    Raises:
        StorageError, StoreMovedError: it is.
    """
    refusal = why_closed(find_move(session), address.shown)
    if refusal is not None:
        raise refusal


def closed_by_move(error: BaseException, session: Session, address: Address) -> TaqubaError | None:
    """Return what to tell instead of an error of a statement whose tables a move has put away; None: it is another.

    The session is in no transaction, or in one that has failed, which is rolled back.
    """
    if not isinstance(error, psycopg.errors.UndefinedTable):
        return None
    try:
        if session.in_transaction:
            session.run("ROLLBACK")
        return why_closed(find_move(session), address.shown)
    except psycopg.Error:
        return None
