"""Raw connections for tests that look behind the engine, and children that run a script and answer in lines."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.relational.gate import Gate


@contextmanager
def raw(root: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the store's database as any program would open it: through SQLite, nothing else."""
    with closing(sqlite3.connect(root / "db" / "cache.db", isolation_level=None, timeout=30)) as connection:
        # A raw connection must not checkpoint beside the guard either.
        connection.execute("PRAGMA wal_autocheckpoint=0")
        yield connection


@contextmanager
def through(gate: Gate) -> Iterator[None]:
    """Be inside the gate, as every call that uses a connection is."""
    token = object()
    try:
        gate.enter(token)
        yield
    finally:
        gate.leave(token, None)
        gate.tell()


@contextmanager
def inside(store: EmbeddedStore) -> Iterator[Connections]:
    """The store's own connections, used as one of its calls would use them."""
    with through(store._connections.gate):
        yield store._connections


class Child:
    """A python process that runs ``script`` with ``arguments``; talks in lines."""

    def __init__(self, script: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )

    def read(self) -> str:
        """The next line that the child prints; '' once it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def wait(self) -> int:
        return self.process.wait(60)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                pass
