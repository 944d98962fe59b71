"""The few connections of one process, and the gate that closes them all across a fork.

SQLite's table of file locks survives a fork: a new connection in the child would believe that its locks are held and
take none, and commits would vanish. So no connection is open across a fork: the gate lets running calls end, keeps
new ones waiting, closes every connection, and parent and child open theirs again when they need one.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from taquba_workflow_sync.errors import StoreClosedError
from taquba_workflow_sync.storage.embedded.cache import DATABASE_NAME, connect, stop_waiting
from taquba_workflow_sync.storage.embedded.sqlite_errors import LostDatabaseError
from taquba_workflow_sync.storage.relational.gate import Gate, Room
from taquba_workflow_sync.wakeup import WakeUp

_READERS: Final = 3
# A look takes 20 microseconds.
_MOMENT: Final = 0.0002
_TRIES: Final = 50
_FULL: Final = 2
_NORMAL: Final = 1


#: For how long a directory must have been as it is, before its time of change tells that it still is: older kernels
#: count that time in ticks of some milliseconds.
_SETTLED_NS: Final = 50_000_000


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # never opened: closing any descriptor of it drops SQLite's locks
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Watcher:
    """A connection that never commits, and SQLite's count of commits as it last saw it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.version: int | None = None


class Connections:
    """One writer, one checkpointer, one watcher, a few readers; opened when first needed, every setting verified."""

    def __init__(self, directory: Path, *, is_durable: bool, wal_bytes: int) -> None:
        self._directory = directory
        self._synchronous = _FULL if is_durable else _NORMAL
        self._wal_bytes = wal_bytes
        self._is_closed = False
        self.root: Path = directory.parent
        self._database = directory / DATABASE_NAME
        self._wal = directory / f"{DATABASE_NAME}-wal"
        self._identity: tuple[int, int] | None = None
        self._directory_seen: tuple[int, ...] | None = None
        self._changes = 0
        #: Of changes, each once: two threads that tell one at the same moment tell two.
        self._numbers = itertools.count(1)
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start afresh with no connection and a new gate: the parent's may count threads that are not here."""
        self.gate: Gate = Gate()
        self._wal_identity: tuple[int, int] | None = None
        self._writer: sqlite3.Connection | None = None
        self._checkpointer: sqlite3.Connection | None = None
        self._idle_readers: list[sqlite3.Connection] = []
        self._readers = Room(_READERS)
        # The one watcher, while nobody looks through it; and whether somebody does, or it was lost to an interruption.
        self._idle_watchers: list[_Watcher] = []
        self._watcher: weakref.ref[_Watcher] | None = None

    def open(self) -> sqlite3.Connection:
        """Open one more connection; the caller closes it.

        Raises:
            StoreClosedError: the store was closed meanwhile; nothing opens it behind the back of its close.
        """
        if self._is_closed:
            raise StoreClosedError(f"the store {self.root} was closed; open it again")
        connection = connect(self._directory, synchronous=self._synchronous)
        if self._identity is None:
            self._identity = _identity_of(self._database)
            self._directory_seen = None
        return connection

    def check_identity(self) -> None:
        """Refuse to go on with a file that is not the store's any more.

        Raises:
            LostDatabaseError: the database or its log was deleted, moved or replaced.
        """
        directory = self._look_at_directory()
        if directory is not None and directory == self._directory_seen:
            return
        if self._identity is not None and _identity_of(self._database) != self._identity:
            raise LostDatabaseError(f"the database of {self.root} was deleted, moved or replaced under this process")
        if self._wal_identity is not None and _identity_of(self._wal) != self._wal_identity:
            raise LostDatabaseError(
                f"the log of the database of {self.root} was deleted or replaced under this process"
            )
        self._directory_seen = directory

    def _look_at_directory(self) -> tuple[int, ...] | None:
        """Return what changes if a file is made, removed or replaced there; None where that cannot be told yet.

        The files themselves are looked at only when that has changed. On Linux 6.18 with ext4 a look at the log had
        the sync of the next commit write its inode as well (likely since 6.13, whose files note a new time with the
        first write after a look): with one look a commit, a COMMIT took 185 microseconds instead of 140.
        """
        try:
            found = os.stat(self._directory)
        except OSError:
            return None
        changed = max(found.st_mtime_ns, found.st_ctime_ns)
        if changed >= time.time_ns() - _SETTLED_NS:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns

    def writer(self) -> sqlite3.Connection:
        """Return the connection that writes; the caller leads the commits and is inside the gate."""
        self.check_identity()
        if self._writer is None:
            # Kept open besides the writer: SQLite removes the log when a last connection closes, and the writer is
            # closed now and then. From here on the log must stay the file that it is.
            self._put_back(self._take_watcher())
            self._writer = stop_waiting(self.open())
            self._writer.execute(f"PRAGMA journal_size_limit = {self._wal_bytes}").fetchall()
            self._wal_identity = _identity_of(self._wal)
            self._directory_seen = None
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
        if not self._is_watched:
            self._wal_identity = None  # the log may have gone with its last connection

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
        token = object()
        room, gate = self._readers, self.gate
        try:
            room.enter(token)
            gate.enter(token)
            self.check_identity()
            connection = self._idle_readers.pop() if self._idle_readers else self.open()
            yield connection
            is_sound = not connection.in_transaction
        finally:
            # Each in a finally of its own: what a signal handler raises after one of them must not skip the next.
            try:
                if connection is not None and is_sound:
                    self._idle_readers.append(connection)
                elif connection is not None:
                    connection.close()
            finally:
                try:
                    gate.leave(token, None)
                finally:
                    room.leave(token, None)
            gate.tell()
            room.tell()

    def count_changes(self) -> int:
        """Return another number than ever before if anybody has committed since it was last returned; or for no reason.

        SQLite counts commits per connection, so there is one that looks for all and never commits itself. While a
        thread looks through it, the others wait for it: what that one finds may be older than what they have read.
        A thread that is kept from putting it back keeps nobody for long: then a change is told, which may be none.
        """
        for _ in range(_TRIES):
            if self._look():
                break
            WakeUp().wait(_MOMENT)
        else:
            self._changes = next(self._numbers)
        return self._changes

    def _look(self) -> bool:
        """Look whether anybody has committed, unless another thread does; whether this one has."""
        token = object()
        watcher: _Watcher | None = None
        gate = self.gate
        try:
            gate.enter(token)
            self.check_identity()
            watcher = self._take_watcher()
            if watcher is not None:
                version = watcher.connection.execute("PRAGMA data_version").fetchone()[0]
                if version != watcher.version:
                    # In this order: interrupted in between, the same commit counts twice, and not never.
                    self._changes = next(self._numbers)
                    watcher.version = version
            return watcher is not None
        finally:
            try:
                self._put_back(watcher)
            finally:
                gate.leave(token, None)
            gate.tell()

    @property
    def _is_watched(self) -> bool:
        return self._watcher is not None and self._watcher() is not None

    def _take_watcher(self) -> _Watcher | None:
        """Return the watcher, opened if there is none; None while another thread has it."""
        try:
            return self._idle_watchers.pop()
        except IndexError:
            if self._is_watched:
                return None
        watcher = _Watcher(self.open())
        self._watcher = weakref.ref(watcher)
        return watcher

    def _put_back(self, watcher: _Watcher | None) -> None:
        if watcher is not None:
            self._idle_watchers.append(watcher)

    def close(self, *, for_good: bool = False) -> None:
        """Close every connection; the caller has shut the gate or is the last to use them."""
        self._is_closed = self._is_closed or for_good
        self.drop_writer()
        self.drop_checkpointer()
        idle = [*self._idle_readers, *(watcher.connection for watcher in self._idle_watchers)]
        self._idle_readers.clear()
        self._idle_watchers.clear()
        self._watcher = self._wal_identity = None
        for connection in idle:
            connection.close()
