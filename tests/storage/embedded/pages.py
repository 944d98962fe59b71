"""Pages of a store's database, found by what they hold and damaged as a disk damages them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

#: Where the number of the next overflow page, or the header of a b-tree's page, stands.
_HEAD = 8


def settle_log(root: Path) -> None:
    """Move the log into the database; nobody has the store open."""
    with closing(sqlite3.connect(root / "db" / "cache.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _page_size(data: bytes) -> int:
    return int.from_bytes(data[16:18], "big") or 65_536


def pages_with(root: Path, marker: bytes) -> list[int]:
    """Return the numbers of the pages that hold ``marker``, from 1."""
    settle_log(root)
    data = (root / "db" / "cache.db").read_bytes()
    size = _page_size(data)
    return [at // size + 1 for at in range(0, len(data), size) if marker in data[at : at + size]]


def root_of(root: Path, name: str) -> int:
    """Return the page at which a table or an index begins."""
    settle_log(root)
    with closing(sqlite3.connect(root / "db" / "cache.db")) as connection:
        return int(connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0])


def damage(root: Path, page: int, junk: bytes = b"\xff" * _HEAD) -> None:
    """Overwrite the head of a page."""
    settle_log(root)
    path = root / "db" / "cache.db"
    data = bytearray(path.read_bytes())
    at = (page - 1) * _page_size(bytes(data))
    data[at : at + len(junk)] = junk
    path.write_bytes(bytes(data))
