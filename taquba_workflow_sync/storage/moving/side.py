"""One of the two stores of a move, whichever engine it is of."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from taquba_workflow_sync.storage.moving.tables import Row, Table
from taquba_workflow_sync.storage.port.store import OpenOptions, Store
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.moved import Move


class Side(Protocol):
    """A store as a move works on it, over one connection of its own."""

    @property
    def shown(self) -> str:
        """Its address, without a password."""
        ...

    @property
    def connection(self) -> Connection:
        """Where statements run, within :meth:`transaction` if they change anything."""
        ...

    def open(self, options: OpenOptions = ...) -> Store:
        """Open the store as everybody does; it is made if it is not there."""
        ...

    def is_there(self) -> bool:
        """Whether there is a store."""
        ...

    def move(self) -> Move | None:
        """Return the move that is noted in it."""
        ...

    def lock(self) -> None:
        """Keep other moves away until :meth:`close`, where the engine can.

        Raises:
            StoreInUseError: another move is at work.
        """
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Run the block as one transaction, the only one that writes.

        Raises:
            StoreInUseError: other transactions keep it from the tables; named.
            StorageError: it failed, and did nothing.
        """
        ...

    def hide(self) -> None:
        """Put the tables away, in the open transaction: what is open elsewhere finds none from its commit on."""
        ...

    def no_submits(self) -> AbstractContextManager[None]:
        """Have programs' own transactions wait with their submits until the end of the block, those open having ended.

        Raises:
            StoreInUseError: one does not end; named.
        """
        ...

    def has_arrivals(self) -> bool:
        """Whether programs' own transactions have put in what the store has not taken over yet.

        Waits for those that are open, and keeps others from it until the open transaction ends.
        """
        ...

    def show(self) -> None:
        """Have the tables be where they belong, in the open transaction."""
        ...

    def empty(self) -> None:
        """Remove every row of the tables put away, in the open transaction, and have the counters begin anew."""
        ...

    def read(self, statement: str, values: Row = ...) -> list[Row]:
        """Return what a statement finds, as the engine has it.

        Raises:
            StorageError: it cannot be read.
        """
        ...

    def rows(self, table: Table, statement: str, values: Row) -> list[Row]:
        """Return rows of the table in the form in which they are compared.

        Raises:
            Damage: one of them cannot be.
        """
        ...

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """Write rows into the table put away, in the open transaction."""
        ...

    def go_on_after(self, tables: Sequence[Table]) -> None:
        """Have the numbers that the engine gives go on after those that were copied, in the open transaction."""
        ...

    def close(self) -> None:
        """Let go of the connection, and of the lock."""
        ...
