"""What a store says of a move that it is, or was, a part of."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from taquba_workflow_sync.errors import StorageError, StoreMovedError, TaqubaError
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection


class MoveState(StrEnum):
    """How far a move is, as one of its two stores has it."""

    #: The source: nothing is claimed, what runs is waited for, submits go through.
    DRAINING = "draining"
    #: The source: closed, it is copied.
    COPYING = "copying"
    #: The source: closed for ever.
    MOVED = "moved"
    #: The target: closed, it is filled.
    FILLING = "filling"
    #: The target: open. The source may not know it yet.
    FILLED = "filled"


class Move(NamedTuple):
    """A move, as noted in a store; ``other`` is the address of the other store, without its password."""

    id: str
    state: MoveState
    other: str

    @property
    def is_closed(self) -> bool:
        """Whether nobody else may work on the store."""
        return self.state in (MoveState.COPYING, MoveState.MOVED, MoveState.FILLING)


def noted_move(connection: Connection) -> Move | None:
    """Return what is noted; the table is there."""
    row = connection.execute(sql.GET_MOVE).fetchone()
    if row is None:
        return None
    id, state, other = row
    return Move(str(id), MoveState(state), str(other))


def why_closed(move: Move | None, store: object) -> TaqubaError | None:
    """Return what to tell whoever wants to work on ``store``, or None: no move has closed it."""
    if move is None or not move.is_closed:
        return None
    if move.state is MoveState.MOVED:
        moved = StoreMovedError(f"the store {store} was moved to {move.other}: open it there")
        moved.address = move.other
        return moved
    again = "if the move was ended before its time, run it again, or with --abort"
    if move.state is MoveState.COPYING:
        return StorageError(f"the store {store} is being moved to {move.other}: try again later; {again}")
    return StorageError(f"the store {store} is being filled by a move from {move.other}: try again later; {again}")
