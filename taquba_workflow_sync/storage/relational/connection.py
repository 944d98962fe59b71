"""What the statements of this package run on: a connection to a database, SQLite's or another engine's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class Cursor(Protocol):
    """What a statement has returned."""

    @property
    def rowcount(self) -> int:
        """How many rows it has changed."""
        ...

    @property
    def lastrowid(self) -> int | None:
        """The number of the row that it has inserted, where the engine made that."""
        ...

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        ...

    def close(self) -> None:
        """Let go of the rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """Runs statements with ``?`` in the place of each value."""

    def execute(self, statement: str, values: Any = ..., /) -> Cursor:
        """Run one."""
        ...
