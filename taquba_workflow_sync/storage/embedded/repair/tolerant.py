"""Text that is none, read all the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Undecodable(bytes):
    """Text that is no UTF-8."""


def tolerant(data: bytes) -> str | Undecodable:
    """Decode text as SQLite has it; for ``text_factory`` where a strict read has failed."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Undecodable(data)


@contextmanager
def tolerant_snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Read one moment of a store, of which anything may be damaged; text that is none comes as :class:`Undecodable`."""
    factory = connection.text_factory
    connection.text_factory = tolerant
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.text_factory = factory
        # On damaged pages the end of a transaction fails as well; whoever lent the connection closes it then.
        with suppress(sqlite3.DatabaseError):
            connection.execute("ROLLBACK")
