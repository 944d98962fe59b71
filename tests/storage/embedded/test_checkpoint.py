"""Checkpoints run under the write lock and nowhere else, shrink the WAL, and back off while a reader pins it."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taquba_workflow_sync.storage.embedded import checkpoint as checkpoint_module
from taquba_workflow_sync.storage.embedded.cache import DATABASE_NAME
from taquba_workflow_sync.storage.embedded.checkpoint import Checkpointer
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.relational.sql import names as sql
from tests.storage.bench import job, put, put_one, version_of
from tests.storage.embedded.raw import through

from .conftest import OpenEmbedded, open_at
from .raw import raw

SMALL = 2 << 20


def wal_size(root: Path) -> int:
    return os.stat(root / "db" / f"{DATABASE_NAME}-wal").st_size


def fill(store: EmbeddedStore, megabytes: float) -> None:
    for _ in range(int(megabytes * 4)):
        put(store, job(payload=b"x" * 250_000))


class Clock:
    """A monotonic clock set by hand, in place of the checkpointer's."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_module, "_LOOK_INTERVAL", 0.0)


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(checkpoint_module, "time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each checkpoint that was tried from now on moved everything."""
    seen: list[bool] = []
    original = Checkpointer.run

    def watching(self: Checkpointer, size: int = 0) -> bool:
        seen.append(original(self, size))
        return seen[-1]

    monkeypatch.setattr(Checkpointer, "run", watching)
    return seen


def test_the_wal_is_kept_small_by_checkpoints(open_embedded: OpenEmbedded, root: Path, runs: list[bool]) -> None:
    store = open_embedded(checkpoint_bytes=SMALL)
    fill(store, 12)
    assert len(runs) >= 4 and all(runs)
    assert wal_size(root) <= SMALL + (1 << 20)


def test_the_wal_starts_over_in_a_file_that_keeps_its_size(
    open_embedded: OpenEmbedded, root: Path, runs: list[bool]
) -> None:
    store = open_embedded(checkpoint_bytes=SMALL)
    while not runs:
        fill(store, 0.25)
    assert wal_size(root) > SMALL
    # From then on commits overwrite it, until one goes beyond its end; cut to just the threshold, none looks overdue.
    while len(runs) == 1:
        put_one(store)
        assert wal_size(root) == SMALL or len(runs) == 2
    assert wal_size(root) > SMALL


def test_nothing_is_checkpointed_below_the_threshold(open_embedded: OpenEmbedded, root: Path, runs: list[bool]) -> None:
    store = open_embedded(checkpoint_bytes=64 << 20)
    before = os.stat(root / "db" / DATABASE_NAME).st_mtime_ns
    fill(store, 6)
    assert runs == []
    assert wal_size(root) > 6 << 20
    assert os.stat(root / "db" / DATABASE_NAME).st_mtime_ns == before, "SQLite did not checkpoint by itself either"


# The guard


class _Watched:
    """A connection that tells of its statements."""

    def __init__(self, connection: sqlite3.Connection, tell: Callable[[str], None]) -> None:
        self._connection = connection
        self._tell = tell

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        self._tell(statement)
        return self._connection.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_a_checkpoint_never_runs_without_the_write_lock_held(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded(checkpoint_bytes=SMALL)
    put_one(store)
    seen: list[tuple[str, bool]] = []

    def tell(statement: str) -> None:
        if "wal_checkpoint" not in statement:
            return
        with raw(root) as other:
            other.execute("PRAGMA busy_timeout=0")
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                seen.append((statement, "locked" in str(error)))
            else:
                other.execute("ROLLBACK")
                seen.append((statement, False))

    with through(store._connections.gate):
        store._connections._checkpointer = _Watched(store._connections.checkpointer(), tell)  # type: ignore[assignment]
    fill(store, 8)
    assert len(seen) >= 2
    assert all(is_locked for _, is_locked in seen)
    assert {statement for statement, _ in seen} == {"PRAGMA wal_checkpoint(PASSIVE)"}, "the others would block"


def test_the_checkpoint_runs_on_another_connection_than_the_one_that_holds_the_lock(
    open_embedded: OpenEmbedded,
) -> None:
    store = open_embedded(checkpoint_bytes=SMALL)
    put_one(store)
    with through(store._connections.gate):
        assert store._connections.checkpointer() is not store._connections.writer()
    fill(store, 4)
    with through(store._connections.gate):
        assert not store._connections.writer().in_transaction
        assert not store._connections.checkpointer().in_transaction


def test_no_connection_checkpoints_by_itself(open_embedded: OpenEmbedded, root: Path) -> None:
    # Readers and the watcher read a large WAL; only the guarded way may move it.
    store = open_embedded(checkpoint_bytes=1 << 40)
    fill(store, 8)
    before = os.stat(root / "db" / DATABASE_NAME).st_mtime_ns
    for _ in range(3):
        store.counts()
        version_of(store)
        with raw(root) as connection:
            connection.execute(f"SELECT count(*) FROM {sql.JOB}").fetchone()
    other = open_at(root)
    other.counts()
    other.close()
    assert os.stat(root / "db" / DATABASE_NAME).st_mtime_ns == before


def test_a_checkpoint_that_meets_another_writer_leaves_it_alone(
    open_embedded: OpenEmbedded, root: Path, runs: list[bool]
) -> None:
    store = open_embedded(checkpoint_bytes=1 << 40)
    fill(store, 4)
    checkpointer = Checkpointer(root / "db", store._connections, threshold=SMALL)
    with raw(root) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with through(store._connections.gate):
            assert checkpointer.run_if_due() is False
        connection.execute("ROLLBACK")
    with through(store._connections.gate):
        assert checkpointer.run_if_due() is True


def test_a_checkpoint_that_fails_costs_the_caller_nothing(
    open_embedded: OpenEmbedded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_embedded(checkpoint_bytes=SMALL)
    put_one(store)

    def fail(statement: str) -> None:
        if "wal_checkpoint" in statement:
            raise sqlite3.OperationalError("disk I/O error")

    with through(store._connections.gate):
        store._connections._checkpointer = _Watched(store._connections.checkpointer(), fail)  # type: ignore[assignment]
    with caplog.at_level(logging.WARNING):
        fill(store, 4)
    assert "checkpoint failed" in caplog.text
    assert store.counts()["steps"].pending == 17
    assert not store._connections.writer().in_transaction


# A pinned WAL


def test_a_pinned_wal_makes_the_checkpoints_back_off_and_come_back(
    open_embedded: OpenEmbedded, root: Path, runs: list[bool], monotonic: Clock
) -> None:
    store = open_embedded(checkpoint_bytes=SMALL)
    put_one(store)
    waits = []
    with raw(root) as reader:
        reader.execute("BEGIN")
        reader.execute(f"SELECT count(*) FROM {sql.JOB}").fetchone()
        fill(store, 3)
        assert runs == [False], "one try, then it backs off, however many commits come"
        for _ in range(8):
            tries = len(runs)
            started = monotonic.now
            while len(runs) == tries:
                monotonic.now += 0.5
                put_one(store)
            waits.append(monotonic.now - started)
            assert runs[-1] is False
        reader.execute("ROLLBACK")
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    monotonic.now += 60
    put_one(store)
    assert runs[-1] is True
    put_one(store)
    assert wal_size(root) == SMALL
    tries = len(runs)
    fill(store, 3)
    assert len(runs) > tries, "a checkpoint that moved everything ends the backing off"


def test_a_large_pinned_wal_is_warned_about(
    open_embedded: OpenEmbedded, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoint_module, "_WARN_BYTES", 3 << 20)
    store = open_embedded(checkpoint_bytes=1 << 40)
    put_one(store)
    checkpointer = Checkpointer(root / "db", store._connections, threshold=SMALL)
    with raw(root) as reader:
        reader.execute("BEGIN")
        reader.execute(f"SELECT count(*) FROM {sql.JOB}").fetchone()
        fill(store, 4)
        with caplog.at_level(logging.WARNING), through(store._connections.gate):
            assert checkpointer.run_if_due() is False
        reader.execute("ROLLBACK")
    assert "reader" in caplog.text and "MiB" in caplog.text


def test_everything_written_is_there_after_many_checkpoints_and_a_restart(root: Path) -> None:
    store = open_at(root, checkpoint_bytes=SMALL)
    ids = [put_one(store, payload=os.urandom(100_000)) for _ in range(60)]
    payloads = {each: store.get(each) for each in ids}
    store.close()
    store = open_at(root)
    try:
        assert {each: store.get(each) for each in ids} == payloads
    finally:
        store.close()
    with raw(root) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_only_sqlite_opens_the_database_files(
    open_embedded: OpenEmbedded, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Closing any other descriptor of them would drop this process's locks.
    open_at(root).close()
    opened: list[str] = []
    original = os.open

    def watching(path: Any, *args: Any, **kwargs: Any) -> int:
        opened.append(str(path))
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", watching)
    store = open_embedded(checkpoint_bytes=SMALL)
    fill(store, 6)
    version_of(store)
    assert not [path for path in opened if DATABASE_NAME in path]
