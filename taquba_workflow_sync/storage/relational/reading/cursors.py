"""Cursors that are the number of the last row that a page showed."""

from __future__ import annotations


def number_in(cursor: str | None) -> int:
    """Return the row that a page begins after.

    Raises:
        ValueError: the cursor is none of this store's.
    """
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
        raise ValueError(f"cursor {cursor[:40]!r} is none of ours; pass a page's next_cursor unchanged")
    return int(cursor)
