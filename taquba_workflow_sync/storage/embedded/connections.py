"""The few connections of one process, and the gate that closes them all across a fork.

SQLite's table of file locks survives a fork: a new connection in the child would believe that its locks are held and
take none, and commits would vanish. So no connection is open across a fork: the gate lets running calls end, keeps
new ones waiting, closes every connection, and parent and child open theirs again when they need one.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# Imported for its order: fork hooks run last registered first, and filelock refuses a fork while another thread is
# between filelock's own hooks. Registered after them, ours (which wait, and close connections) run outside of that.
import filelock  # noqa: F401  # for its side effect

from taquba_workflow_sync.errors import StoreClosedError
from taquba_workflow_sync.storage.embedded.cache import DATABASE_NAME, connect, stop_waiting

_READERS: Final = 3
_FULL: Final = 2
_NORMAL: Final = 1
_LOST_WAKE_UP: Final = 0.1


class Gate:
    """Knows which threads use a connection, lets in at most ``limit`` at once, and shuts when the process forks.

    It counts threads, not entries, and is left in a ``finally`` whether it was entered or not: an interrupt (a signal
    handler that raises) may come between any two lines here, and a count that it left too high would hang every later
    fork and close. A call never nests in its own thread.
    """

    def __init__(self, limit: int | None = None) -> None:
        # The lock is taken by itself: Condition.__enter__ is Python, and an interrupt inside it would keep it for ever.
        self._lock = threading.Lock()
        self._condition = threading.Condition(self._lock)
        self._limit = limit
        self._inside: set[int] = set()
        self._closed = 0

    def enter(self) -> None:
        """Wait until the gate is open and has room; the caller leaves in a ``finally`` around this very call."""
        with self._lock:
            while self._closed or (self._limit is not None and len(self._inside) >= self._limit):
                self._condition.wait(_LOST_WAKE_UP)
            self._inside.add(threading.get_ident())

    def leave(self) -> None:
        """Be outside, whatever was before."""
        self._inside.discard(threading.get_ident())
        if self._closed or self._limit is not None:
            with self._lock:
                self._condition.notify_all()

    def shut(self, timeout: float = float("inf")) -> None:
        """Keep new calls out and wait, at most ``timeout`` seconds, until those of other threads have left."""
        me = threading.get_ident()
        until = time.monotonic() + timeout
        with self._lock:
            self._closed += 1
            while self._inside - {me} and time.monotonic() < until:
                self._condition.wait(_LOST_WAKE_UP)

    def open(self) -> None:
        """Let calls in again, once every ``shut`` has been answered."""
        with self._lock:
            self._closed -= 1
            if not self._closed:
                self._condition.notify_all()


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


class ForkGuard:
    """What a store does around a fork; its methods never raise."""

    def before_fork(self) -> None:
        """Shut the gate and close every connection."""

    def after_fork_in_parent(self) -> None:
        """Open the gate."""

    def after_fork_in_child(self) -> None:
        """Forget everything that belongs to the parent."""

    def close_at_exit(self) -> None:
        """Close what nobody closed."""


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


def _at_exit() -> None:
    # Dispatchers registered their own exits later, so they have ended by now. Unclosed, a store would leave its lock
    # file to be cleared away by others, and Python warns of each connection.
    for store in list(_open_stores):
        store.close_at_exit()


atexit.register(_at_exit)
os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
