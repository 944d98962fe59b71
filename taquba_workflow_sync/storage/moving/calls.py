"""A move asked for by two addresses, one a directory, the other a URL."""

from __future__ import annotations

from contextlib import closing

from taquba_workflow_sync.storage.moving import move as moves
from taquba_workflow_sync.storage.moving.embedded import EmbeddedSide
from taquba_workflow_sync.storage.moving.postgres import PostgresSide
from taquba_workflow_sync.storage.moving.side import Side
from taquba_workflow_sync.storage.moving.stages import At
from taquba_workflow_sync.storage.postgres.address import is_url


def _side(address: str) -> Side:
    return PostgresSide(address) if is_url(address) else EmbeddedSide(address)


def move(source: str, target: str, wait_s: float, at: At | None = None) -> int:
    """Move a store, or go on with a move; return how many rows it has; see :func:`.move.move`."""
    with closing(_side(source)) as here, closing(_side(target)) as there:
        return moves.move(here, there, wait_s, at)


def abort(source: str, target: str, at: At | None = None) -> None:
    """Undo a move that has not come to its end; see :func:`.move.abort`."""
    with closing(_side(source)) as here, closing(_side(target)) as there:
        moves.abort(here, there, at)
