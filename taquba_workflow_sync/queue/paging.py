"""What a caller says of the page that it wants, checked."""

from __future__ import annotations

from collections.abc import Callable

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.storage.port.operators import Piece


def page_of(limit: object, cursor: object) -> tuple[int, str | None]:
    """Return where a page begins and how long it is at most, checked."""
    most = validation.integer(limit, "limit", least=1, most=10_000)
    if cursor is not None and not isinstance(cursor, str):
        raise TypeError(f"cursor must be a str, not {type(cursor).__name__}")
    return most, cursor


def in_pieces(do: Callable[[str | None], Piece]) -> int:
    """Do something to many rows, a bounded number in each commit; returns to how many."""
    changed = 0
    cursor = None
    while True:
        piece = do(cursor)
        changed += piece.changed
        cursor = piece.next_cursor
        if cursor is None:
            return changed
