"""The few connections of one process, and the gate that closes them all across a fork.

SQLite's table of file locks survives a fork: a new connection in the child would believe that its locks are held and
take none, and commits would vanish. So no connection is open across a fork: the gate lets running calls end, keeps
new ones waiting, closes every connection, and parent and child open theirs again when they need one.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# Imported for its order: fork hooks run last registered first, and filelock refuses a fork while another thread is
# between filelock's own hooks. Registered after them, ours (which wait, and close connections) run outside of that.
import filelock  # noqa: F401

from taquba_workflow_sync.errors import StoreClosedError
from taquba_workflow_sync.storage.embedded.cache import DATABASE_NAME, connect, stop_waiting

_READERS: Final = 3
_FULL: Final = 2
_NORMAL: Final = 1


class Gate:
    """Counts the calls that use a connection, and shuts when the process forks."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._inside = 0
        self._closed = 0

    def __enter__(self) -> None:
        with self._condition:
            while self._closed:
                self._condition.wait()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._inside -= 1
            if self._closed and not self._inside:
                self._condition.notify_all()

    def shut(self) -> None:
        """Keep new calls out and wait until those inside have left."""
        with self._condition:
            self._closed += 1
            while self._inside:
                self._condition.wait()

    def open(self) -> None:
        """Let calls in again, once every ``shut`` has been answered."""
        with self._condition:
            self._closed -= 1
            if not self._closed:
                self._condition.notify_all()


class Connections:
    """One writer, one checkpointer, a few readers; opened when first needed, each with every setting verified."""

    def __init__(self, directory: Path, *, is_durable: bool) -> None:
        self._directory = directory
        self._synchronous = _FULL if is_durable else _NORMAL
        self._generation = 0
        self._is_closed = False
        self._database = directory / DATABASE_NAME
        self._identity: tuple[int, int] | None = None
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start afresh with no connection and new locks: those of the parent may be held by threads not here."""
        self.gate = Gate()
        self._writer: sqlite3.Connection | None = None
        self._checkpointer: sqlite3.Connection | None = None
        self._watcher: sqlite3.Connection | None = None
        self._idle_readers: list[sqlite3.Connection] = []
        self._readers_free = threading.BoundedSemaphore(_READERS)
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
            self._identity = self._find_identity()
        return connection

    def _find_identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._database)  # never opened: closing any descriptor of it drops SQLite's locks
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def check_identity(self) -> None:
        """Refuse to go on with a file that is not the store's any more: what is written to it nobody would ever see.

        Raises:
            sqlite3.OperationalError: the database was deleted, moved or replaced.
        """
        if self._identity is not None and self._find_identity() != self._identity:
            raise sqlite3.OperationalError("the database was deleted, moved or replaced under this process")

    def writer(self) -> sqlite3.Connection:
        """Return the connection that writes; the caller leads the commits and is inside the gate."""
        self.check_identity()
        if self._writer is None:
            self._writer = stop_waiting(self.open())
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

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for a short read."""
        with self._readers_free, self.gate:
            self.check_identity()
            connection = self._idle_readers.pop() if self._idle_readers else self.open()
            try:
                yield connection
            except sqlite3.Error:
                connection.close()
                raise
            else:
                self._idle_readers.append(connection)

    def data_version(self) -> int:
        """Return SQLite's count of commits as one connection that never commits sees it.

        The count means nothing to another connection, so each connection's are set apart by a number of its own.
        """
        with self._watching, self.gate:
            self.check_identity()
            if self._watcher is None:
                self._watcher = self.open()
                self._generation += 1
            version: int = self._watcher.execute("PRAGMA data_version").fetchone()[0]
            return self._generation << 40 | version

    def close(self, *, for_good: bool = False) -> None:
        """Close every connection; the caller has shut the gate or is the last to use them."""
        self._is_closed = self._is_closed or for_good
        self.drop_writer()
        for connection in (self._checkpointer, self._watcher, *self._idle_readers):
            if connection is not None:
                connection.close()
        self._checkpointer = self._watcher = None
        self._idle_readers.clear()


class ForkGuard:
    """What a store does around a fork; its methods never raise."""

    def before_fork(self) -> None:
        """Shut the gate and close every connection."""

    def after_fork_in_parent(self) -> None:
        """Open the gate."""

    def after_fork_in_child(self) -> None:
        """Forget everything that belongs to the parent."""


# The one piece of module-level state: os.register_at_fork cannot unregister, so the hooks look here.
_open_stores: weakref.WeakSet[ForkGuard] = weakref.WeakSet()
_forking: list[ForkGuard] = []
_one_fork = threading.Lock()


def guard_forks_of(store: ForkGuard) -> None:
    """Have ``store`` told of every fork from now on, until it is garbage or says otherwise."""
    _open_stores.add(store)


def forget(store: ForkGuard) -> None:
    """Undo :func:`guard_forks_of`."""
    _open_stores.discard(store)


def _before() -> None:
    _one_fork.acquire()  # two threads that fork at once would open each other's gates
    stores = sorted(_open_stores, key=id)
    for store in stores:
        store.before_fork()
    _forking.extend(stores)


def _in_parent() -> None:
    # A store opened or closed by another thread meanwhile was not shut, so only those that were are opened.
    stores = list(_forking)
    _forking.clear()
    for store in stores:
        store.after_fork_in_parent()
    _one_fork.release()


def _in_child() -> None:
    _forking.clear()
    _one_fork.release()
    for store in list(_open_stores):
        store.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
