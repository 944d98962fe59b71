"""What the engine relies on in diskcache that diskcache does not promise; a new release must pass here first."""

from __future__ import annotations

import os
import pickle
import sqlite3
from pathlib import Path
from typing import Any

import diskcache
import pytest
from diskcache.core import DBNAME, MODE_PICKLE, MODE_RAW

from taquba_workflow_sync.storage.embedded import cache as cache_module
from taquba_workflow_sync.storage.embedded.cache import DATABASE_NAME, SETTINGS, PlainDisk, StoreCache
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.relational.sql.names import JOB
from tests.stable_ids import stable_id
from tests.storage.bench import job, put

from .conftest import OpenEmbedded
from .raw import raw


class Exploding:
    """Does something the test sees when it is unpickled."""

    fired = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _explode, ()


def _explode() -> str:
    Exploding.fired = True
    return "unpickled"


@pytest.fixture(autouse=True)
def _nothing_explodes() -> Any:
    Exploding.fired = False
    yield
    assert not Exploding.fired, "something was unpickled"


@pytest.fixture
def stored(root: Path) -> Path:
    """A store that exists and that nobody has open."""
    EmbeddedStore(root).close()
    return root


def test_the_database_is_called_what_we_think() -> None:
    assert DATABASE_NAME == DBNAME == "cache.db"


# -- the constructor --------------------------------------------------------------------------------------------------


def _statements_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record every statement of every connection opened from now on."""
    seen: list[str] = []
    connect = sqlite3.connect

    def traced(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(seen.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return seen


def _writes(statements: list[str]) -> list[str]:
    words = ("INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "REPLACE", "ALTER", "BEGIN IMMEDIATE")
    return [each for each in statements if each.lstrip().upper().startswith(words)]


def test_diskcaches_constructor_writes_even_to_a_complete_store(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Why a verified store is opened without it; if this ever fails, attach() may have become unnecessary.
    seen = _statements_of(monkeypatch)
    diskcache.Cache(str(stored / "db"), disk=PlainDisk).close()
    assert len([each for each in seen if each.startswith("INSERT OR REPLACE INTO Settings")]) >= 16
    assert len(_writes(seen)) >= 29


def test_opening_a_verified_store_never_runs_the_constructor(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("diskcache's constructor ran")

    monkeypatch.setattr(diskcache.Cache, "__init__", refuse)
    EmbeddedStore(stored).close()


def test_opening_a_verified_store_writes_nothing(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with raw(stored) as watcher:
        before = watcher.execute("PRAGMA data_version").fetchone()
        changed = os.stat(stored / "db" / DATABASE_NAME)
        seen = _statements_of(monkeypatch)
        store = EmbeddedStore(stored)
        store.counts()
        assert _writes(seen) == []
        assert watcher.execute("PRAGMA data_version").fetchone() == before
        store.close()
        after = os.stat(stored / "db" / DATABASE_NAME)
        assert (after.st_mtime_ns, after.st_size) == (changed.st_mtime_ns, changed.st_size)


def test_creation_writes_all_settings_into_the_file(stored: Path) -> None:
    with raw(stored) as connection:
        settings = dict(connection.execute("SELECT key, value FROM Settings"))
    assert {key: settings[key] for key in SETTINGS} == SETTINGS
    assert set(diskcache.DEFAULT_SETTINGS) <= set(SETTINGS) | set(settings)


def test_a_plain_cache_that_opens_the_file_inherits_the_settings(stored: Path) -> None:
    with diskcache.Cache(str(stored / "db")) as plain:
        for name, value in SETTINGS.items():
            if not name.startswith("disk_"):
                assert getattr(plain, name) == value
        pragmas = {name: plain._sql(f"PRAGMA {name}").fetchone()[0] for name in
                   ("wal_autocheckpoint", "mmap_size", "synchronous", "journal_size_limit", "auto_vacuum")}  # fmt: skip
    assert pragmas == {
        "wal_autocheckpoint": 0, "mmap_size": 0, "synchronous": 2, "journal_size_limit": 1 << 20, "auto_vacuum": 0,
    }  # fmt: skip


def test_a_plain_cache_that_opens_the_file_does_not_checkpoint_it(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded(checkpoint_bytes=1 << 40)
    for _ in range(20):
        put(store, *(job(payload=b"x" * 2_000) for _ in range(100)))
    wal = root / "db" / "cache.db-wal"
    before = os.stat(root / "db" / DATABASE_NAME)
    assert os.stat(wal).st_size > 1 << 20
    with diskcache.Cache(str(root / "db")) as plain:
        plain["key"] = b"value"
    after = os.stat(root / "db" / DATABASE_NAME)
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)


def test_a_plain_cache_evicts_nothing_of_ours(stored: Path) -> None:
    with diskcache.Cache(str(stored / "db")) as plain:
        for number in range(300):
            plain[number] = b"x" * 1_000
        assert plain.cull() == 0
        assert len(plain) == 300


# -- an attached cache ------------------------------------------------------------------------------------------------


def test_an_attached_cache_has_what_diskcaches_methods_need(stored: Path) -> None:
    attached = StoreCache.attach(stored / "db")
    try:
        assert attached.set("key", b"value")
        assert attached.get("key") == b"value"
        assert attached.add("key", b"other") is False
        assert attached.incr("number") == 1
        assert len(attached) == 2
        assert set(attached) == {"key", "number"}
        assert attached.delete("key") is True
        with attached.transact():
            attached["a"] = 1
        assert attached.pop("a") == 1
        assert attached.directory == str(stored / "db")
    finally:
        attached.close()


def test_attaching_writes_nothing(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _statements_of(monkeypatch)
    attached = StoreCache.attach(stored / "db")
    attached.get("key")
    attached.close()
    assert _writes(seen) == []


def test_an_attached_cache_keeps_large_values_inside_the_database(stored: Path) -> None:
    attached = StoreCache.attach(stored / "db")
    try:
        attached["big"] = b"x" * 1_000_000
        attached["text"] = "ü" * 1_000_000
        assert attached["big"] == b"x" * 1_000_000
        assert attached["text"] == "ü" * 1_000_000
    finally:
        attached.close()
    assert [each.name for each in (stored / "db").iterdir() if not each.name.startswith("cache.db")] == []


def test_items_and_jobs_live_in_one_file(stored: Path) -> None:
    with raw(stored) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"Cache", "Settings", f"{JOB}"} <= tables


def test_diskcaches_check_touches_nothing_of_ours(stored: Path) -> None:
    before = sorted(each.name for each in (stored / "owners").iterdir())
    attached = StoreCache.attach(stored / "db")
    try:
        attached.check(fix=True)
    finally:
        attached.close()
    assert sorted(each.name for each in (stored / "owners").iterdir()) == before
    assert (stored / "open.lock").exists()
    EmbeddedStore(stored).close()


# -- no pickle --------------------------------------------------------------------------------------------------------

ODD = [("a", "tuple"), None, 2**70, [1], {"a": 1}, Exploding(), True]


@pytest.mark.parametrize("value", ODD, ids=stable_id)
def test_what_would_need_pickle_is_refused_as_key_and_as_value(stored: Path, value: object) -> None:
    attached = StoreCache.attach(stored / "db")
    try:
        with pytest.raises(TypeError, match="pickle"):
            attached.set("key", value)
        with pytest.raises(TypeError, match="pickle"):
            attached.set(value, b"value")
        with pytest.raises(TypeError, match="pickle"):
            attached.get(value)
        assert len(attached) == 0
    finally:
        attached.close()


@pytest.mark.parametrize("value", [b"bytes", "text", 7, -(2**63), 1.5, b"", ""])
def test_plain_values_come_back_as_they_were(stored: Path, value: object) -> None:
    attached = StoreCache.attach(stored / "db")
    try:
        attached.set("key", value)
        assert attached.get("key") == value
        assert type(attached.get("key")) is type(value)
    finally:
        attached.close()


def test_a_planted_pickle_is_never_unpickled(stored: Path) -> None:
    bomb = pickle.dumps(Exploding())
    with raw(stored) as connection:
        columns = "key, raw, store_time, access_time, mode, filename, value"
        insert = f"INSERT INTO Cache ({columns}) VALUES (?, ?, 0, 0, ?, ?, ?)"
        connection.execute(insert, ("value", 1, MODE_PICKLE, None, bomb))
        connection.execute(insert, (bomb, 0, MODE_RAW, None, b"x"))
        connection.execute(insert, ("file", 1, MODE_PICKLE, "planted.val", None))
    (stored / "db" / "planted.val").write_bytes(bomb)
    attached = StoreCache.attach(stored / "db")
    try:
        for call in (
            lambda: attached.get("value"),
            lambda: attached["file"],
            lambda: list(attached),
            lambda: attached.peekitem(),
            lambda: attached.pop("value"),
        ):
            with pytest.raises(TypeError, match="pickle"):
                call()
    finally:
        attached.close()


def test_a_planted_side_file_is_never_read(stored: Path) -> None:
    with raw(stored) as connection:
        connection.execute(
            "INSERT INTO Cache (key, raw, store_time, access_time, mode, filename) VALUES ('k', 1, 0, 0, 2, '../../x')"
        )
    attached = StoreCache.attach(stored / "db")
    try:
        with pytest.raises(TypeError, match="side file"):
            attached.get("k")
    finally:
        attached.close()


def test_a_pickled_store_setting_does_not_run_at_open(stored: Path) -> None:
    with raw(stored) as connection:
        connection.execute("UPDATE Settings SET value = ? WHERE key = 'size_limit'", (pickle.dumps(Exploding()),))
    EmbeddedStore(stored).close()
    with raw(stored) as connection:
        (limit,) = connection.execute("SELECT value FROM Settings WHERE key = 'size_limit'").fetchone()
    assert limit == SETTINGS["size_limit"]


def test_only_one_module_of_the_package_touches_diskcache() -> None:
    package = Path(cache_module.__file__).parents[2]
    users = {path.name for path in package.rglob("*.py") if "diskcache.core" in path.read_text()
             or "import diskcache" in path.read_text()}  # fmt: skip
    assert users == {"cache.py"}
