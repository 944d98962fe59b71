"""The settings that are not negotiable hold on every connection of the engine, whatever the file says."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import diskcache
import pytest

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.embedded.cache import SETTINGS, connect
from taquba_workflow_sync.storage.embedded.checkpoint import CHECKPOINT_BYTES
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.store import Durability
from taquba_workflow_sync.wakeup import WakeUp
from tests.storage.bench import claim, put_one, stored

from .conftest import OpenEmbedded
from .raw import inside, raw

EXPECTED = {
    "journal_mode": "wal",
    "wal_autocheckpoint": 0,
    "mmap_size": 0,
    "fullfsync": 1,
    "checkpoint_fullfsync": 1,
    "journal_size_limit": 1 << 20,
    "auto_vacuum": 0,
}


def pragmas(connection: sqlite3.Connection) -> dict[str, object]:
    return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in (*EXPECTED, "synchronous")}


def expected(name: str, synchronous: int = 2) -> dict[str, object]:
    """What a connection of a handle has: the one that writes says to what the log shrinks."""
    own = {"journal_size_limit": CHECKPOINT_BYTES} if name == "writer" else {}
    return {**EXPECTED, "synchronous": synchronous, **own}


def connections_of(store: EmbeddedStore) -> dict[str, sqlite3.Connection]:
    """Every connection of a handle, made to exist."""
    put_one(store)
    store.wait_for_changes(None, 0.0, WakeUp())
    with store._connections.reading() as reader:
        pass
    with inside(store) as connections:
        (watcher,) = connections._idle_watchers
        return {
            "reader": reader,
            "watcher": watcher.connection,
            "writer": connections.writer(),
            "checkpointer": connections.checkpointer(),
        }


@pytest.mark.parametrize(("durability", "synchronous"), [(Durability.FULL, 2), (Durability.RELAXED, 1)])
def test_every_connection_has_every_setting(
    open_embedded: OpenEmbedded, durability: Durability, synchronous: int
) -> None:
    for name, connection in connections_of(open_embedded(durability=durability)).items():
        assert pragmas(connection) == expected(name, synchronous), name


def test_durability_is_decided_by_each_handle(open_embedded: OpenEmbedded) -> None:
    relaxed = open_embedded(durability=Durability.RELAXED)
    full = open_embedded(durability=Durability.FULL)
    assert pragmas(connections_of(relaxed)["writer"])["synchronous"] == 1
    assert pragmas(connections_of(full)["writer"])["synchronous"] == 2


RESET = {
    "eviction_policy": "least-recently-used",
    "cull_limit": 10,
    "statistics": 1,
    "tag_index": 1,
    "size_limit": 1 << 20,
    "sqlite_mmap_size": 1 << 26,
    "sqlite_wal_autocheckpoint": 1000,
    "sqlite_synchronous": 1,
    "sqlite_journal_size_limit": -1,
    "sqlite_fullfsync": 0,
    "disk_min_file_size": 1 << 15,
}


def reset_by_a_plain_cache(root: Path, settings: dict[str, object]) -> None:
    diskcache.Cache(str(root / "db"), **settings).close()


@pytest.mark.parametrize("name", [*RESET, "all"])
def test_settings_that_another_program_reset_are_put_right_by_the_next_open(root: Path, name: str) -> None:
    EmbeddedStore(root).close()
    reset_by_a_plain_cache(root, dict(RESET) if name == "all" else {name: RESET[name]})
    store = EmbeddedStore(root)
    try:
        with raw(root) as connection:
            settings = dict(connection.execute("SELECT key, value FROM Settings"))
        assert {key: settings[key] for key in SETTINGS} == SETTINGS
        for each, connection in connections_of(store).items():
            assert pragmas(connection) == expected(each)
    finally:
        store.close()


def test_a_reset_while_the_store_is_open_reaches_no_later_connection(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    job_id = put_one(store)
    reset_by_a_plain_cache(root, dict(RESET))
    for name, connection in connections_of(store).items():
        assert pragmas(connection) == expected(name), name
    assert claim(store).id == job_id


def test_jobs_survive_a_reset_and_what_diskcache_then_evicts(root: Path) -> None:
    store = EmbeddedStore(root)
    job_id = put_one(store)
    store.close()
    with diskcache.Cache(str(root / "db"), **RESET) as plain:
        for number in range(2_000):
            plain[number] = b"x" * 1_000
    store = EmbeddedStore(root)
    try:
        assert stored(store, job_id).payload == b"work"
    finally:
        store.close()


def test_a_database_that_left_wal_mode_is_refused_on_connect(root: Path) -> None:
    EmbeddedStore(root).close()
    with raw(root) as connection:
        assert connection.execute("PRAGMA journal_mode=delete").fetchone() == ("delete",)
    with pytest.raises(sqlite3.OperationalError, match="WAL"):
        connect(root / "db", synchronous=2)


def test_a_database_that_left_wal_mode_is_put_right_by_the_next_open(root: Path) -> None:
    EmbeddedStore(root).close()
    with raw(root) as connection:
        connection.execute("PRAGMA journal_mode=delete")
    EmbeddedStore(root).close()
    with raw(root) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_deleted_database_is_an_error_not_an_empty_store(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    put_one(store)
    store._connections.gate.shut()
    store._connections.close()
    store._connections.gate.open()
    for file in (root / "db").iterdir():
        file.unlink()
    with pytest.raises(StorageError):
        store.counts()
    with pytest.raises(StorageError):
        put_one(store)
    assert not (root / "db" / "cache.db").exists()


def test_few_connections_serve_many_threads(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    put_one(store)
    barrier = threading.Barrier(40)
    failures: list[BaseException] = []

    def read() -> None:
        barrier.wait(30)
        try:
            for _ in range(5):
                store.counts()
                store.wait_for_changes(None, 0.0, WakeUp())
                put_one(store)
        except BaseException as error:
            failures.append(error)

    opened: list[int] = []
    original = store._connections.open

    def counting() -> sqlite3.Connection:
        opened.append(1)
        return original()

    store._connections.open = counting  # type: ignore[method-assign]  # counts, then does the same
    threads = [threading.Thread(target=read) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert failures == []
    assert len(opened) <= 6
