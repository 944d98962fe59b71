"""How a handle reads and writes: errors told in the port's words."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import psycopg

from taquba_workflow_sync.errors import StorageError, TaqubaError
from taquba_workflow_sync.storage.port.run import NameHeldError
from taquba_workflow_sync.storage.postgres.arrivals import HAVE_COME
from taquba_workflow_sync.storage.postgres.connections import Connections
from taquba_workflow_sync.storage.postgres.errors import as_not_written, first_line
from taquba_workflow_sync.storage.postgres.moved import closed_by_move
from taquba_workflow_sync.storage.relational.group_commit import GroupCommit
from taquba_workflow_sync.storage.relational.pending import Operation, PendingWrite
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.wakeup import WakeUp

#: For how long a write waits for a name that a program's open transaction has, and how often it looks.
_NAME_PATIENCE: Final = 2.0
_NAME_AGAIN: Final = 0.05

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Access:
    """Reads and writes of one handle, from any thread."""

    def __init__(self, use: Callable[[], None], connections: Connections, commits: GroupCommit) -> None:
        self._use = use
        self._connections = connections
        self._commits = commits

    def read(self, query: Callable[Concatenate[Any, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a query over a session lent for it; what programs have committed before is taken over first.

        Raises:
            StorageError: it cannot be read.
            StoreMovedError: it is elsewhere now.
        """
        self._use()
        try:
            with self._connections.reading() as session:
                try:
                    ((arrival,),) = session.execute(HAVE_COME).fetchall()
                    if arrival is None or not self._commits.may_wait():
                        return query(session, *args, **kwargs)
                except psycopg.errors.UndefinedTable as error:
                    refusal = closed_by_move(error, session, self._connections.address)
                    if refusal is None:
                        raise
                    raise refusal from error
            self.write(lambda tx: None)
            with self._connections.reading() as session:
                return query(session, *args, **kwargs)
        except psycopg.Error as error:
            where = self._connections.address.shown
            raise StorageError(f"cannot read the store {where}: {first_line(error)}") from error

    def write(self, operation: Callable[[Transaction], _T], *, here: bool = False) -> _T:
        """Commit one operation and return its answer; durable on return. ``here``: in the calling thread if it can.

        Raises:
            StorageError: it was not committed, or nobody knows; or a name of its runs stays taken by a program's open
                transaction.
        """
        until = time.monotonic() + _NAME_PATIENCE
        while True:
            (write,) = self.run([operation], here=here)
            if not isinstance(write.error, NameHeldError):
                break
            if time.monotonic() >= until:
                raise StorageError(str(write.error)) from write.error
            WakeUp().wait(_NAME_AGAIN)  # outside the store's lock: whoever has the name may be slow
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
