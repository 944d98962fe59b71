"""One process of a scenario: does what it is told in lines on its stdin, and says when it is done.

Run as ``python -m tests.faults.wal.actor STORE [--checkpoint BYTES] [--breach NAME]``.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import diskcache

from taquba_workflow_sync import Queue, StorageError
from taquba_workflow_sync.storage.embedded import connections
from taquba_workflow_sync.storage.embedded.checkpoint import Checkpointer
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.relational.sql.names import JOB
from tests.faults.lab import open_queue
from tests.faults.wal import window
from tests.processes.harness import say
from tests.storage.embedded.raw import inside

QUEUE = "wal"


class Actor:
    """Its handle on the store, its thread that writes, its snapshot."""

    def __init__(self, store: Path, checkpoint_bytes: int) -> None:
        self._store = store
        self._checkpoint_bytes = checkpoint_bytes
        self._queue: Queue | None = None
        self._stack = ExitStack()
        self._resting = threading.Event()
        self._thread: threading.Thread | None = None
        self._commits = 0
        self.is_stopping = False

    def open(self) -> None:
        self._queue = open_queue(self._store, checkpoint_bytes=self._checkpoint_bytes)

    def close(self) -> None:
        assert self._queue is not None
        self._queue.close()
        self._queue = None

    def put(self, count: str = "1", size: str = "500") -> None:
        """Commit so many times, one after the other; a fault that was injected into one of them is not ours."""
        assert self._queue is not None
        for _ in range(int(count)):
            try:
                self._queue.enqueue(QUEUE, b"x" * int(size))
            except StorageError as error:
                say("failed", error)
            self._commits += 1

    def checkpoint(self, where: str = "") -> None:
        """Checkpoint, as a commit that finds the WAL too long does; ``stopping`` in the window of SQLite's fault."""
        assert self._queue is not None
        self.is_stopping = bool(where)
        store = self._queue.handle.store
        assert isinstance(store, EmbeddedStore)
        try:
            with inside(store) as connections:
                say("complete", Checkpointer(self._store / "db", connections).run())
        finally:
            self.is_stopping = False

    def stop(self) -> None:
        """Be called in the window; wait there for the next line."""
        if self.is_stopping:
            self.is_stopping = False
            say("stopped")
            sys.stdin.readline()

    def reopen(self, count: str = "1") -> None:
        """Open, commit, close."""
        for _ in range(int(count)):
            self.open()
            self.put()
            self.close()

    def write(self) -> None:
        """Commit again and again, until told to rest."""
        self._resting.clear()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        while not self._resting.wait(0.01):
            self.put()

    def rest(self) -> None:
        assert self._thread is not None
        self._resting.set()
        self._thread.join()

    def fork(self, count: str = "5") -> None:
        """Have a child commit beside this process, and go without a goodbye."""
        pid = os.fork()
        if not pid:
            self.put(count)
            os._exit(0)
        self.put(count)
        assert os.waitpid(pid, 0)[1] == 0
        say("forked", pid)

    def diskcache(self, count: str = "1") -> None:
        """Open and close the file as plain diskcache does, with its own defaults, and write by it."""
        for number in range(int(count)):
            with closing(diskcache.Cache(str(self._store / "db"), timeout=60)) as cache:
                cache.set(f"{os.getpid()}-{number}", b"x" * 500)
                cache.delete(f"{os.getpid()}-{number}")

    def pin(self) -> None:
        """Read, and keep the snapshot."""
        reader = self._stack.enter_context(
            closing(sqlite3.connect(self._store / "db" / "cache.db", isolation_level=None, timeout=60))
        )
        reader.execute("PRAGMA wal_autocheckpoint=0")
        reader.execute("BEGIN")
        reader.execute(f"SELECT count(*) FROM {JOB}").fetchone()

    def unpin(self) -> None:
        self._stack.close()

    def vanish(self) -> None:
        """End at once, with nothing closed."""
        os._exit(0)


# -- what the guard is there against -----------------------------------------------------------------------------------


def checkpoint_automatically() -> None:
    """Have SQLite checkpoint by itself after a commit, as it does by default."""
    connect = connections.connect

    def connect_and_set(directory: Path, *, synchronous: int) -> sqlite3.Connection:
        connection = connect(directory, synchronous=synchronous)
        connection.execute("PRAGMA wal_autocheckpoint=1")
        return connection

    connections.connect = connect_and_set
    Checkpointer.run_if_due = lambda self: False  # type: ignore[method-assign]


def checkpoint_unguarded() -> None:
    """Checkpoint on the second connection, without the write lock on the first."""

    def run(self: Checkpointer, size: int = 0) -> bool:
        self._move()
        return True

    Checkpointer.run = run  # type: ignore[method-assign]


BREACHES: dict[str, Callable[[], None]] = {"automatic": checkpoint_automatically, "unguarded": checkpoint_unguarded}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--checkpoint", type=int, default=1)
    parser.add_argument("--breach", choices=BREACHES)
    parser.add_argument("--can-stop", action="store_true", help="inside of SQLite, see window.py")
    options = parser.parse_args()
    if options.breach:
        BREACHES[options.breach]()
    actor = Actor(options.store, options.checkpoint)
    if options.can_stop:
        window.stop_in_window(actor.stop)
    say("ready")
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "exit":
            return
        getattr(actor, command)(*arguments)
        say("done", command)


if __name__ == "__main__":
    main()
