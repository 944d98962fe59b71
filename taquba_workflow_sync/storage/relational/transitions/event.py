"""What happened to a run, noted where its row and its attempts do not tell."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.event import FIRST, LAST, EventKind, place_of
from taquba_workflow_sync.storage.port.texts import storable_error
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.garbage import Kind, discard


def note_event(tx: Transaction, seq: int, kind: EventKind, detail: str | None = None) -> None:
    """Note an event of now for the run in row ``seq``, which keeps the first 100 and the last 1,000."""
    _note(tx, seq, sql.NOTE_EVENT, (tx.now_ms, kind, storable_error(detail), seq))


def note_termination(tx: Transaction, seq: int) -> None:
    """Note how a run has failed, which its row will tell no longer."""
    _note(tx, seq, sql.NOTE_TERMINATION, (seq,))


def _note(tx: Transaction, seq: int, statement: str, values: tuple[object, ...]) -> None:
    (number,) = tx.execute(statement, values).fetchone()
    tx.execute(sql.OWN_BELONGINGS, (Belonging.EVENTS, seq))
    if number > FIRST + LAST:
        tx.execute(sql.DROP_EVENT, (seq, number - LAST))


def forget_claim(tx: Transaction, seq: int, ordinal: int) -> None:
    """Have what was noted under the claim ``ordinal``, which is released, stand before the one that gets its number."""
    place = place_of(ordinal - 1, is_claimed=False)
    tx.execute(sql.LEAVE_CLAIM, (place, seq, place))


def discard_events(tx: Transaction, seq: int) -> None:
    """Have what was noted of a deleted row go in pieces."""
    discard(tx, Kind.EVENT, seq)
