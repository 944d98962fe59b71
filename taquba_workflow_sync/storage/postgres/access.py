"""How a handle reads and writes: errors told in the port's words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg

from taquba_workflow_sync.errors import StorageError, TaqubaError
from taquba_workflow_sync.storage.postgres.connections import Connections
from taquba_workflow_sync.storage.postgres.errors import as_not_written, first_line
from taquba_workflow_sync.storage.postgres.moved import closed_by_move
from taquba_workflow_sync.storage.relational.group_commit import GroupCommit
from taquba_workflow_sync.storage.relational.pending import Operation, PendingWrite
from taquba_workflow_sync.storage.relational.transaction import Transaction

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Access:
    """Reads and writes of one handle, from any thread."""

    def __init__(self, use: Callable[[], None], connections: Connections, commits: GroupCommit) -> None:
        self._use = use
        self._connections = connections
        self._commits = commits

    def read(self, query: Callable[Concatenate[Any, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a query over a session lent for it.

        Raises:
            StorageError: it cannot be read.
            StoreMovedError: it is elsewhere now.
        """
        self._use()
        try:
            with self._connections.reading() as session:
                try:
                    return query(session, *args, **kwargs)
                except psycopg.errors.UndefinedTable as error:
                    refusal = closed_by_move(error, session, self._connections.address)
                    if refusal is None:
                        raise
                    raise refusal from error
        except psycopg.Error as error:
            where = self._connections.address.shown
            raise StorageError(f"cannot read the store {where}: {first_line(error)}") from error

    def write(self, operation: Callable[[Transaction], _T], *, here: bool = False) -> _T:
        """Commit one operation and return its answer; durable on return. ``here``: in the calling thread if it can."""
        (write,) = self.run([operation], here=here)
        if write.error is not None and not isinstance(write.error, TaqubaError):
            raise as_not_written(write.error) from write.error
        value: _T = write.answer()
        return value

    def run(self, operations: Sequence[Operation], *, here: bool = False) -> list[PendingWrite]:
        """Commit operations."""
        self._use()
        return self._commits.run_here(operations) if here else self._commits.run(operations)

    def repair(self) -> bool:
        """Nothing is repaired here: the server keeps what is stored."""
        return False
