"""The few connections of one process, and the gate that closes them all across a fork.

SQLite's table of file locks survives a fork: a new connection in the child would believe that its locks are held and
take none, and commits would vanish. So no connection is open across a fork: the gate lets running calls end, keeps
new ones waiting, closes every connection, and parent and child open theirs again when they need one.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from taquba_workflow_sync.errors import StoreClosedError
from taquba_workflow_sync.storage.embedded.cache import DATABASE_NAME, connect, stop_waiting
from taquba_workflow_sync.storage.embedded.gate import Gate

_READERS: Final = 3


_FULL: Final = 2


_NORMAL: Final = 1


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # never opened: closing any descriptor of it drops SQLite's locks
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Connections:
    """One writer, one checkpointer, a few readers; opened when first needed, each with every setting verified."""

    def __init__(self, directory: Path, *, is_durable: bool) -> None:
        self._directory = directory
        self._synchronous = _FULL if is_durable else _NORMAL
        self._generation = 0
        self._is_closed = False
        self.root: Path = directory.parent
        self._database = directory / DATABASE_NAME
        self._wal = directory / f"{DATABASE_NAME}-wal"
        self._identity: tuple[int, int] | None = None
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start afresh with no connection and new locks: those of the parent may be held by threads not here."""
        self.gate: Gate = Gate()
        self._wal_identity: tuple[int, int] | None = None
        self._writer: sqlite3.Connection | None = None
        self._checkpointer: sqlite3.Connection | None = None
        self._watcher: sqlite3.Connection | None = None
        self._idle_readers: list[sqlite3.Connection] = []
        self._reader_gate = Gate(_READERS)
        self._watching = threading.Lock()

    def open(self) -> sqlite3.Connection:
        """Open one more connection; the caller closes it.

        Raises:
            StoreClosedError: the store was closed meanwhile; nothing opens it behind the back of its close.
        """
        if self._is_closed:
            raise StoreClosedError(f"the store {self._directory.parent} was closed; open it again")
        connection = connect(self._directory, synchronous=self._synchronous)
        if self._identity is None:
            self._identity = _identity_of(self._database)
        return connection

    def check_identity(self) -> None:
        """Refuse to go on with a file that is not the store's any more: what is written to it nobody would ever see.

        Raises:
            sqlite3.OperationalError: the database or its log was deleted, moved or replaced.
        """
        if self._identity is not None and _identity_of(self._database) != self._identity:
            raise sqlite3.OperationalError("the database was deleted, moved or replaced under this process")
        if self._wal_identity is not None and _identity_of(self._wal) != self._wal_identity:
            raise sqlite3.OperationalError("the database's log was deleted or replaced under this process")

    def writer(self) -> sqlite3.Connection:
        """Return the connection that writes; the caller leads the commits and is inside the gate."""
        self.check_identity()
        if self._writer is None:
            with self._watching:
                # Kept open besides the writer: SQLite removes the log when a last connection closes, and the writer is
                # closed now and then. From here on the log must stay the file that it is.
                self._open_watcher()
            self._writer = stop_waiting(self.open())
            self._wal_identity = _identity_of(self._wal)
        return self._writer

    @property
    def open_writer(self) -> sqlite3.Connection | None:
        """The connection that writes, if it is open."""
        return self._writer

    def checkpointer(self) -> sqlite3.Connection:
        """Return the connection that checkpoints while the writer holds the write lock."""
        if self._checkpointer is None:
            self._checkpointer = self.open()
        return self._checkpointer

    def drop_writer(self) -> None:
        """Close the writer, after an error that leaves its state in doubt."""
        connection, self._writer = self._writer, None
        if connection is not None:
            connection.close()

    def drop_checkpointer(self) -> None:
        """Close the checkpointer, after an error that leaves its state in doubt."""
        connection, self._checkpointer = self._checkpointer, None
        if connection is not None:
            connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for a short read."""
        connection: sqlite3.Connection | None = None
        is_sound = False
        try:
            self._reader_gate.enter()
            self.gate.enter()
            self.check_identity()
            connection = self._idle_readers.pop() if self._idle_readers else self.open()
            yield connection
            is_sound = not connection.in_transaction
        finally:
            if connection is not None:
                if is_sound:
                    self._idle_readers.append(connection)
                else:
                    connection.close()
            self.gate.leave()
            self._reader_gate.leave()

    def _open_watcher(self) -> sqlite3.Connection:
        if self._watcher is None:
            self._watcher = self.open()
            self._generation += 1
        return self._watcher

    def data_version(self) -> int:
        """Return SQLite's count of commits as one connection that never commits sees it.

        The count means nothing to another connection, so each connection's are set apart by a number of its own.
        """
        # The gate first, as the writer has it: a fork waits for who is inside, and they must not wait for who is not.
        try:
            self.gate.enter()
            with self._watching:
                self.check_identity()
                version: int = self._open_watcher().execute("PRAGMA data_version").fetchone()[0]
                return self._generation << 40 | version
        finally:
            self.gate.leave()

    def close(self, *, for_good: bool = False) -> None:
        """Close every connection; the caller has shut the gate or is the last to use them."""
        self._is_closed = self._is_closed or for_good
        self.drop_writer()
        for connection in (self._checkpointer, self._watcher, *self._idle_readers):
            if connection is not None:
                connection.close()
        self._checkpointer = self._watcher = self._wal_identity = None
        self._idle_readers.clear()
