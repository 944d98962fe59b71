"""Opening: made once by whoever is first, completed where it was cut short, refused where it is newer."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import diskcache
import pytest

from taquba_workflow_sync.errors import SchemaVersionError, StorageError
from taquba_workflow_sync.storage.embedded import opening as opening_module
from taquba_workflow_sync.storage.embedded.cache import SETTINGS
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.store import OpenOptions
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.sql.names import JOB
from tests.storage.bench import claim, put_one

from .conftest import OpenEmbedded
from .raw import Child, raw

OPEN_AND_INSERT = """
import sys
from pathlib import Path
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.job import NewJob
print("ready", flush=True)
sys.stdin.readline()
store = EmbeddedStore(Path(sys.argv[1]))
store.insert([NewJob(f"J{sys.argv[2]}", "q", b"x")])
store.close()
print("done", flush=True)
"""


def check_complete(root: Path) -> None:
    """Assert that the store is whole and works."""
    store = EmbeddedStore(root)
    try:
        put_one(store, "probe")
        assert claim(store, queue="probe").attempts == 1
    finally:
        store.close()
    with raw(root) as connection:
        assert connection.execute("SELECT value FROM taquba_meta WHERE key = 'schema'").fetchone() == (
            sql.SCHEMA_VERSION,
        )
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        settings = dict(connection.execute("SELECT key, value FROM Settings"))
        assert {key: settings[key] for key in SETTINGS} == SETTINGS
        indexes = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    assert _index_names() <= indexes


def _index_names() -> set[str]:
    marker = "INDEX IF NOT EXISTS "
    return {each.split(marker)[1].split()[0] for each in sql.SCHEMA if marker in each}


def test_eight_processes_that_open_a_new_store_at_once_all_get_it(root: Path) -> None:
    children = [Child(OPEN_AND_INSERT, root, number) for number in range(8)]
    try:
        assert [child.read() for child in children] == ["ready"] * 8
        for child in children:
            child.tell()
        assert [child.read() for child in children] == ["done"] * 8
        assert [child.wait() for child in children] == [0] * 8
    finally:
        for child in children:
            child.__exit__()
    with raw(root) as connection:
        assert connection.execute(f"SELECT count(*), count(DISTINCT seq) FROM {JOB}").fetchone() == (8, 8)
    check_complete(root)


class _Cut(Exception):
    """The creation ends here."""


def _cut_after(monkeypatch: pytest.MonkeyPatch, allowed: int) -> list[sqlite3.Connection]:
    """Have the statement after ``allowed`` ones (of every connection together) fail, and every later one too.

    Returns the connections made: a process that dies closes them, diskcache's cut short constructor does not.
    """
    left = [allowed]
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    class Cutting(sqlite3.Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

        def execute(self, *args: Any) -> sqlite3.Cursor:  # type: ignore[override]
            left[0] -= 1
            if left[0] < 0:
                raise _Cut
            return super().execute(*args)

    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "factory": Cutting}))
    return made


def _statements_of_a_creation(root: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    counted = [0]
    connect = sqlite3.connect

    class Counting(sqlite3.Connection):
        def execute(self, *args: Any) -> sqlite3.Cursor:  # type: ignore[override]
            counted[0] += 1
            return super().execute(*args)

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "factory": Counting}))
        EmbeddedStore(root).close()
    return counted[0]


def test_a_creation_cut_short_at_any_statement_is_completed_by_the_next_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = _statements_of_a_creation(tmp_path / "whole", monkeypatch)
    assert total > 60
    cuts = 0
    for allowed in [*range(0, total, 5), total - 1]:
        root = tmp_path / str(allowed)
        with monkeypatch.context() as patch:
            made = _cut_after(patch, allowed)
            try:
                EmbeddedStore(root).close()
            except _Cut:
                cuts += 1
            for connection in made:
                connection.close()
        check_complete(root)
    assert cuts >= total // 5 - 2


@pytest.mark.parametrize("statement", range(len(sql.SCHEMA)))
def test_a_schema_whose_transaction_was_lost_is_made_by_the_next_open(
    root: Path, monkeypatch: pytest.MonkeyPatch, statement: int
) -> None:
    broken = (*sql.SCHEMA[:statement], "this is no statement", *sql.SCHEMA[statement:])
    with monkeypatch.context() as patch:
        patch.setattr(opening_module.sql, "SCHEMA", broken)
        with pytest.raises(StorageError):
            EmbeddedStore(root)
    check_complete(root)


def test_a_process_killed_in_the_middle_of_a_creation_leaves_nothing_locked(root: Path) -> None:
    script = """
import os, sys, time
from pathlib import Path
from taquba_workflow_sync.storage.embedded import opening
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
def hold(directory):
    print("holding", flush=True)
    sys.stdin.readline()
opening.create_private = hold
EmbeddedStore(Path(sys.argv[1]))
"""
    with Child(script, root) as child:
        assert child.read() == "holding"
        child.kill()
        check_complete(root)


def test_a_newer_schema_is_refused_and_left_alone(root: Path) -> None:
    EmbeddedStore(root).close()
    with raw(root) as connection:
        connection.execute("UPDATE taquba_meta SET value = value + 1 WHERE key = 'schema'")
        before = connection.execute("PRAGMA data_version").fetchone()
        with pytest.raises(SchemaVersionError, match=f"version {sql.SCHEMA_VERSION + 1}.*up to {sql.SCHEMA_VERSION}"):
            EmbeddedStore(root)
        assert connection.execute("PRAGMA data_version").fetchone() == before
    assert list((root / "owners").iterdir()) == []


def test_a_newer_schema_whose_settings_were_reset_is_refused_and_left_alone(root: Path) -> None:
    EmbeddedStore(root).close()
    with raw(root) as connection:
        connection.execute("UPDATE taquba_meta SET value = 99 WHERE key = 'schema'")
        connection.execute("UPDATE Settings SET value = 7 WHERE key = 'cull_limit'")
        before = connection.execute("PRAGMA data_version").fetchone()
        with pytest.raises(SchemaVersionError):
            EmbeddedStore(root)
        assert connection.execute("PRAGMA data_version").fetchone() == before


def test_a_file_that_is_no_database_is_refused(root: Path) -> None:
    (root / "db").mkdir(parents=True)
    (root / "db" / "cache.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageError, match=str(root)):
        EmbeddedStore(root)


def test_a_directory_of_a_plain_cache_becomes_a_store_and_keeps_its_items(root: Path) -> None:
    with diskcache.Cache(str(root / "db")) as plain:
        plain["key"] = b"value"
    check_complete(root)
    with diskcache.Cache(str(root / "db")) as plain:
        assert plain["key"] == b"value"


def test_an_open_that_is_refused_leaves_no_lock_behind(root: Path) -> None:
    EmbeddedStore(root).close()
    with raw(root) as connection:
        connection.execute("UPDATE taquba_meta SET value = 99 WHERE key = 'schema'")
        with pytest.raises(SchemaVersionError):
            EmbeddedStore(root)
        connection.execute("UPDATE taquba_meta SET value = ? WHERE key = 'schema'", (sql.SCHEMA_VERSION,))
    store = EmbeddedStore(root, OpenOptions(is_exclusive=True))
    store.close()


def test_opening_works_while_another_process_holds_the_write_lock(root: Path) -> None:
    EmbeddedStore(root).close()
    with raw(root) as connection:
        connection.execute("BEGIN IMMEDIATE")
        store = EmbeddedStore(root)
        assert store.counts() == {}
        connection.execute("ROLLBACK")
        store.close()


def test_a_damaged_database_is_refused_with_what_to_do(open_embedded: OpenEmbedded, root: Path) -> None:
    open_embedded().close()
    database = root / "db" / "cache.db"
    database.write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match="its database is damaged: restore a backup"):
        open_embedded()


def test_nothing_is_made_or_completed_without_migrating(tmp_path: Path) -> None:
    root = tmp_path / "store"
    options = OpenOptions(migrates=False)
    with pytest.raises(SchemaVersionError, match="no store at"):
        EmbeddedStore(root, options)
    assert not root.exists()
    EmbeddedStore(root).close()
    EmbeddedStore(root, options).close()
    with raw(root) as connection:
        connection.execute("UPDATE Settings SET value = 7 WHERE key = 'cull_limit'")
    with pytest.raises(SchemaVersionError, match="must be completed or upgraded first"):
        EmbeddedStore(root, options)
    EmbeddedStore(root).close()
    EmbeddedStore(root, options).close()
