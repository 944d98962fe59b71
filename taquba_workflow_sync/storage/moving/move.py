"""A move from one store into another, from its beginning or from where one was cut short; and its undoing.

Each stage is one commit in one of the two stores, and each store says how far it is. The order is such that at any
instant at most one of them can be worked on: the target is closed first and opened when all is there; the source is
closed before the first row is copied, and says for ever where it went only once the target is open.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from taquba_workflow_sync.errors import StorageError, TaqubaError
from taquba_workflow_sync.storage.moving.copying import compare, copy, count_rows
from taquba_workflow_sync.storage.moving.draining import close_source
from taquba_workflow_sync.storage.moving.side import Side
from taquba_workflow_sync.storage.moving.stages import At, reached
from taquba_workflow_sync.storage.moving.tables import copied
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.moved import Move, MoveState, why_closed

_log = logging.getLogger(__name__)

_BEGUN: Final = (MoveState.DRAINING, MoveState.COPYING)


def move(source: Side, target: Side, wait_s: float, at: At | None = None) -> int:
    """Move the store, or go on with a move of the same two stores; return how many rows it has.

    ``wait_s``: for how long running steps and others' transactions are waited for. If they do not end, the source goes
    on as before.

    Raises:
        StoreInUseError: they have not ended, and are named; or another process moves one of the stores.
        StorageError: there is no source, the target is not empty, one of them is part of another move, or a store
            refuses: what was copied stays, and the source stays closed.
        StoreMovedError: the source was moved before.
    """
    with _locked(source, target):
        _check_source(source)
        id = _id_of(source, target)
        try:
            _claim_target(source, target, id, at)
            _mark_source(source, target, id, at)
            if _state(source) is MoveState.DRAINING:
                close_source(source, time.monotonic() + wait_s, at)
        except BaseException:
            _give_up(source, target)
            raise
        if _state(target) is MoveState.FILLING:
            copy(source, target, at)
            reached(at, "copied")
            compare(source, target)
            reached(at, "compared")
            _open_target(target, at)
        return _finish(source, target, at)


def abort(source: Side, target: Side, at: At | None = None) -> None:
    """Undo a move that has not come to its end: the target is empty again, the source as it was.

    Raises:
        StorageError: there is none of these two stores, or all is copied and the target is open.
        StoreMovedError: the source was moved.
    """
    with _locked(source, target):
        here, there = _moves_of(source, target)
        if here is not None and here.state is MoveState.MOVED:
            raise _refusal(here, source)
        begun, filling = _if(here, *_BEGUN), _if(there, MoveState.FILLING)
        if begun is None and filling is None:
            raise StorageError(f"no move from {source.shown} to {target.shown} was begun")
        if begun is not None and filling is None:
            if there is not None and there.id == begun.id:
                raise StorageError(f"all is copied, and {target.shown} is open: run the move again, which ends it")
            _check_other(begun, source, target)
        if filling is not None and not _is_of(filling, begun, source):
            raise _refusal(filling, target)
        if filling is not None:
            _let_go_of_target(target, at)
        if begun is not None:
            _let_go_of_source(source, at)


@contextmanager
def _locked(source: Side, target: Side) -> Iterator[None]:
    """Keep other moves away: one side is a server, which both of two moves of the same stores would meet."""
    source.lock()
    target.lock()
    yield


def _moves_of(source: Side, target: Side) -> tuple[Move | None, Move | None]:
    """Return what each of the two stores tells of a move; nothing, if it is not there."""
    return (source.move() if source.is_there() else None), (target.move() if target.is_there() else None)


def _if(move: Move | None, *states: MoveState) -> Move | None:
    return move if move is not None and move.state in states else None


def _state(side: Side) -> MoveState | None:
    move = side.move()
    return None if move is None else move.state


def _refusal(move: Move, side: Side) -> TaqubaError:
    refusal = why_closed(move, side.shown)
    return StorageError(f"{side.shown} is being moved to {move.other}") if refusal is None else refusal


def _check_other(begun: Move, source: Side, target: Side) -> None:
    if begun.other != target.shown:
        raise StorageError(f"{source.shown} is being moved to {begun.other}, not to {target.shown}")


def _is_of(filling: Move, begun: Move | None, source: Side) -> bool:
    """Whether a target is filled by the move that the source tells of; if it tells of none, by one of the source's."""
    return filling.other == source.shown if begun is None else filling.id == begun.id


def _check_source(source: Side) -> None:
    if not source.is_there():
        raise StorageError(f"there is no store at {source.shown}")
    if source.move() is None:
        source.open().close()  # which brings it to this version


def _id_of(source: Side, target: Side) -> str:
    """Return the number of the move that is to go on, or of a new one.

    Raises:
        StorageError, StoreMovedError: one of the stores is part of another move, or the source was moved.
    """
    here, there = _moves_of(source, target)
    begun, filling = _if(here, *_BEGUN), _if(there, MoveState.FILLING)
    is_known = here is not None and there is not None and here.id == there.id
    if here is not None and is_known and (begun or here.state is MoveState.MOVED) and (filling or _is_open(there)):
        return here.id
    if here is not None and why_closed(here, source.shown) is not None and begun is None:
        raise _refusal(here, source)
    if filling is not None and not (begun is None and _is_of(filling, None, source)):
        raise _refusal(filling, target)
    if there is not None and filling is None and not _is_open(there):
        raise _refusal(there, target)
    if begun is None:
        return secrets.token_hex(8)
    _check_other(begun, source, target)
    return begun.id  # an undoing was cut short, or the target is another of the same name


def _is_open(there: Move | None) -> bool:
    return _if(there, MoveState.FILLED) is not None


def _claim_target(source: Side, target: Side, id: str, at: At | None) -> None:
    """Have the target be closed, empty, and of this move; made if it is not there."""
    there = target.move() if target.is_there() else None
    if there is not None and there.id == id:
        return
    is_hidden = there is not None and there.state is MoveState.FILLING
    if not is_hidden:
        target.open().close()
    with target.transaction():
        if is_hidden:
            target.empty()
        else:
            _check_empty(target)
            target.hide()
        _note(target, Move(id, MoveState.FILLING, source.shown))
        reached(at, "claim target")
    reached(at, "claimed target")


def _check_empty(target: Side) -> None:
    for table in copied():
        if table.name != sql.GRAPH and target.read(f"SELECT 1 FROM {table.name} LIMIT 1"):
            raise StorageError(
                f"{target.shown} is not empty, it has rows in {table.name}: a store is moved into an empty one"
            )


def _note(side: Side, move: Move) -> None:
    side.connection.execute(sql.MAKE_MOVE)
    side.connection.execute(sql.FORGET_MOVE)
    side.connection.execute(sql.NOTE_MOVE, tuple(move))


def _mark_source(source: Side, target: Side, id: str, at: At | None) -> None:
    """Have nothing more be claimed from the source, from the next commit on."""
    here = source.move()
    if here is not None and here.id == id:
        return
    with source.transaction():
        _note(source, Move(id, MoveState.DRAINING, target.shown))
        source.connection.execute(sql.HOLD_QUEUES)
        reached(at, "mark source")
    reached(at, "marked source")


def _open_target(target: Side, at: At | None) -> None:
    with target.transaction():
        target.go_on_after(copied())
        target.show()
        target.connection.execute(sql.MOVE_STATE, (MoveState.FILLED,))
        reached(at, "open target")
    reached(at, "opened target")


def _finish(source: Side, target: Side, at: At | None) -> int:
    """Have the source say where it went; then the target forget that it was moved."""
    many = count_rows(source)
    if _state(source) is not MoveState.MOVED:
        with source.transaction():
            source.connection.execute(sql.MOVE_STATE, (MoveState.MOVED,))
            reached(at, "end source")
        reached(at, "ended source")
    with target.transaction():
        target.connection.execute(sql.DROP_MOVE)
        reached(at, "forget move")
    reached(at, "forgotten move")
    return many


def _give_up(source: Side, target: Side) -> None:
    """Before anything was copied: have both stores be as they were, if they can be."""
    try:
        here, there = _moves_of(source, target)
        draining, filling = _if(here, MoveState.DRAINING), _if(there, MoveState.FILLING)
        if here is not None and why_closed(here, source.shown) is not None:
            return
        if filling is not None and _is_of(filling, draining, source):
            _let_go_of_target(target, None)
        if draining is not None:
            _let_go_of_source(source, None)
    except Exception as error:
        _log.error(
            "the move from %s to %s ends, and cannot be undone; run it again, or with --abort: %r",
            source.shown,
            target.shown,
            error,
        )


def _let_go_of_target(target: Side, at: At | None) -> None:
    with target.transaction():
        target.empty()
        target.show()
        target.connection.execute(sql.DROP_MOVE)
        reached(at, "empty target")
    reached(at, "emptied target")


def _let_go_of_source(source: Side, at: At | None) -> None:
    is_hidden = _state(source) is MoveState.COPYING
    with source.transaction():
        if is_hidden:
            source.show()
        source.connection.execute(sql.LET_QUEUES_GO)
        source.connection.execute(sql.DROP_MOVE)
        reached(at, "open source")
    reached(at, "opened source")
