"""How a handle reads and writes: errors told in the port's words, a new boot entered, damage repaired on the way."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from taquba_workflow_sync.errors import StorageError, TaqubaError
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.lifecycle import Lifecycle
from taquba_workflow_sync.storage.embedded.moved import closed_by_move
from taquba_workflow_sync.storage.embedded.repair.mending import repair
from taquba_workflow_sync.storage.embedded.repair.tolerant import tolerant
from taquba_workflow_sync.storage.embedded.sqlite_errors import as_not_read, is_about_data, is_undecodable
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.data_errors import DamagedDatabaseError
from taquba_workflow_sync.storage.relational.group_commit import GroupCommit
from taquba_workflow_sync.storage.relational.pending import Operation, PendingWrite
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.enter_boot import enter_boot, is_of_boot
from taquba_workflow_sync.storage.relational.unreadable import Unreadable

_log = logging.getLogger(__name__)

_REPAIR_INTERVAL: Final = 5.0
_REPAIR_SHARE: Final = 20.0

_T = TypeVar("_T")
_P = ParamSpec("_P")
Query = Callable[Concatenate[sqlite3.Connection, _P], _T]


class Access:
    """Reads and writes of one handle, from any thread."""

    def __init__(
        self, lifecycle: Lifecycle, connections: Connections, commits: GroupCommit, unreadable: Unreadable, boot: int
    ) -> None:
        self._lifecycle = lifecycle
        self._connections = connections
        self._commits = commits
        self._unreadable = unreadable
        self._boot = boot
        self._is_in_boot = False
        self._next_repair = 0.0
        self._next_search = 0.0

    def read(self, query: Query[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a query over a connection lent for it.

        Raises:
            StorageError: it cannot be read.
            StoreMovedError: it is elsewhere now.
        """
        self._lifecycle.use()
        try:
            with self._connections.reading() as connection:
                try:
                    return query(connection, *args, **kwargs)
                except (sqlite3.OperationalError, UnicodeDecodeError) as error:
                    if not is_undecodable(error):
                        raise
                return _read_undecodable(connection, query, *args, **kwargs)
        except sqlite3.Error as error:
            raise closed_by_move(error, self._connections) or as_not_read(error, self._lifecycle.root) from error

    def write(self, operation: Callable[[Transaction], _T], *, here: bool = False) -> _T:
        """Commit one operation and return its answer; durable on return. ``here``: in the calling thread if it can."""
        (write,) = self.run([operation], here=here)
        if is_about_data(write.error) and not isinstance(write.error, TaqubaError):
            raise StorageError(f"nothing was written: {write.error!r}") from write.error
        value: _T = write.answer()
        return value

    def run(self, operations: Sequence[Operation], *, here: bool = False) -> list[PendingWrite]:
        """Commit operations; the first time, after what a boot of the machine since the last time asks for."""
        self._lifecycle.use()
        if self._is_in_boot:
            return self._run_repairing(operations, here=here)
        if self.read(is_of_boot, self._boot):
            self._is_in_boot = True
            return self._run_repairing(operations)
        entry, *writes = self._run_repairing([lambda tx: enter_boot(tx, self._boot), *operations])
        self._is_in_boot = entry.error is None
        return writes

    def _run_repairing(self, operations: Sequence[Operation], *, here: bool = False) -> list[PendingWrite]:
        """Commit; what the stored data kept from it is tried once more, after that was repaired or is passed over."""
        writes = self._commits.run_here(operations) if here else self._commits.run(operations)
        if all(write.error is None for write in writes):
            return writes
        invalid = [write for write in writes if is_about_data(write.error)]
        if invalid and self.repair():
            self._run_again(invalid)
        while damaged := [write for write in writes if isinstance(write.error, DamagedDatabaseError)]:
            if not self._can_be_read():
                for write in damaged:
                    write.error = StorageError(f"{write.error}; nothing else can be read either at the moment")
                break
            if not self._find_damage(damaged):
                break
            self._run_again(damaged)
        return writes

    def _can_be_read(self) -> bool:
        """Whether the disk gives anything: a read that fails with EIO, perhaps for a moment, SQLite calls damage, too.

        What was looked at by a connection that has pages in memory would tell nothing.
        """
        try:
            with self._connections.reading(), closing(self._connections.open()) as connection:
                connection.execute(sql.READ_META, ("schema",)).fetchone()
        except (sqlite3.Error, StorageError):
            return False
        return True

    def _run_again(self, writes: Sequence[PendingWrite]) -> None:
        again = self._commits.run([write.operation for write in writes])
        for write, second in zip(writes, again, strict=True):
            write.value, write.error = second.value, second.error

    def _find_damage(self, writes: Sequence[PendingWrite]) -> bool:
        """Find what cannot be worked on and is passed over from then on; whether there was anything new."""
        culprits = {write.error.culprit for write in writes if isinstance(write.error, DamagedDatabaseError)}
        with self._connections.reading() as connection:
            found = [
                sentence
                for culprit in culprits
                if culprit is not None
                for sentence in self._unreadable.blame(connection, culprit)
            ]
        for sentence in found:
            _log.error("%s", sentence)
        return bool(found) or self._search()

    def _search(self) -> bool:
        """Look for rows on damaged pages, which are passed over from then on; whether there were any more."""
        began = time.monotonic()
        if began < self._next_search:
            return False
        with self._connections.reading() as connection:
            found = self._unreadable.search(connection)
        if not found:
            # It reads thousands of rows: what it cannot help must not have it done at each try.
            ended = time.monotonic()
            self._next_search = ended + max(_REPAIR_INTERVAL, _REPAIR_SHARE * (ended - began))
        for sentence in found:
            _log.error("%s", sentence)
        return bool(found)

    def repair(self) -> bool:
        """Repair what is damaged in the store; whether there was anything, and that was stored."""
        began = time.monotonic()
        if began < self._next_repair:
            return False
        (write,) = self._commits.run([repair])
        if not write.value:
            # It counts every row: what it cannot help must not have it done at each try.
            ended = time.monotonic()
            self._next_repair = ended + max(_REPAIR_INTERVAL, _REPAIR_SHARE * (ended - began))
        if write.error is not None:
            _log.error("damage in the store %s could not be repaired: %r", self._lifecycle.root, write.error)
            return False
        # Not before the commit: it could fail, and no handler of the user's runs under the write lock.
        for repaired in write.value:
            _log.error("%s", repaired)
        return bool(write.value)


def _read_undecodable(connection: sqlite3.Connection, query: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """Read again where some text is no UTF-8; it comes as what fits no column of text."""
    factory = connection.text_factory
    connection.text_factory = tolerant
    try:
        return query(connection, *args, **kwargs)
    finally:
        connection.text_factory = factory
