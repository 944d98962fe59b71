"""Another program uses the database as a plain cache, or plants pickles: nothing is evicted or unpickled."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

import diskcache
import pytest
from diskcache.core import MODE_PICKLE, MODE_RAW

from taquba_workflow_sync import Queue, SchemaVersionError, StorageError, Succeed, WorkflowRuntime
from taquba_workflow_sync.storage.embedded.cache import SETTINGS, StoreCache
from taquba_workflow_sync.storage.relational.sql.names import JOB, META
from tests.faults.hostile.damage import Vandal
from tests.faults.hostile.robbed import LIMIT
from tests.storage.embedded.raw import inside

#: What the other program does to the cache that it opened.
DEEDS = {
    "opens it with its defaults": "pass",
    "resets every setting": "[cache.reset(k, v) for k, v in diskcache.DEFAULT_SETTINGS.items()]",
    "fills it beyond its limit": "cache.reset('cull_limit', 10); cache.reset('size_limit', 1 << 16); "
    "cache.reset('eviction_policy', 'least-recently-used'); [cache.set(n, b'x' * 40_000) for n in range(50)]",
    "culls": "cache.reset('size_limit', 1); cache.reset('eviction_policy', 'least-recently-stored'); "
    "cache.set('a', 1); cache.cull()",
    "clears it": "cache.set('a', 1, expire=0.001); cache.expire(); cache.evict('a'); cache.clear()",
    "checks and repairs it": "cache.check(fix=True)",
    "vacuums it": "cache.reset('sqlite_auto_vacuum', 1); cache._sql('VACUUM')",
    "turns on autocheckpoints": "cache.reset('sqlite_wal_autocheckpoint', 1); [cache.set(n, n) for n in range(50)]",
    "keeps statistics and tags": "cache.stats(enable=True); cache.create_tag_index(); cache.set('a', 1, tag='t')",
    "holds a transaction": "t = cache.transact(); t.__enter__(); cache.set('a', 1); t.__exit__(None, None, None)",
}
SCRIPT = "import sys, warnings, diskcache\nwith diskcache.Cache(sys.argv[1]) as cache:\n    "


def test_a_plain_cache_harms_no_run_and_no_later_open(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Queue.open(root, durability="relaxed") as queue:
        kept = queue.enqueue_batch("kept", [b"x" * 5000] * 20)
        with WorkflowRuntime(queue, lambda step: Succeed(step.payload), poll_interval=0.05) as runtime:
            for deed, code in DEEDS.items():
                subprocess.run([sys.executable, "-c", SCRIPT + code, str(root / "db")], check=True, timeout=LIMIT)
                assert runtime.submit(input=deed.encode()).result(LIMIT) == deed.encode(), deed
                with Queue.open(root, durability="relaxed") as later:
                    assert [job.id for job in later.list_jobs("kept").jobs] == kept, deed
                    jobs = later.list_jobs("kept").jobs
                    assert {job.payload for job in jobs} == {b"x" * 5000}, deed
                settings = dict(Vandal(root).run("SELECT key, value FROM Settings"))
                assert {key: settings[key] for key in SETTINGS} == SETTINGS, deed
        with inside(queue.handle.store) as connections, connections.reading() as connection:
            assert connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
    assert Vandal(root).run("PRAGMA integrity_check") == [("ok",)]


class Bomb:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._path,)


INSERT = "INSERT INTO Cache (key, raw, store_time, access_time, expire_time, tag, size, mode, filename, value) VALUES "


def plant(root: Path, bomb: bytes) -> None:
    """Put a pickle wherever diskcache would unpickle one, and where nothing should."""
    vandal = Vandal(root)
    vandal.run(f"{INSERT} ('value', 1, 0, 0, NULL, NULL, 0, ?, NULL, ?)", MODE_PICKLE, bomb)
    vandal.run(f"{INSERT} (?, 0, 0, 0, NULL, NULL, 0, ?, NULL, ?)", bomb, MODE_RAW, b"x")
    vandal.run(f"{INSERT} ('file', 1, 0, 0, NULL, NULL, 0, ?, 'planted.val', NULL)", MODE_PICKLE)
    vandal.run(f"{INSERT} ('expired', 1, 0, 0, 1, ?, 0, ?, NULL, ?)", bomb, MODE_PICKLE, bomb)
    (root / "db" / "planted.val").write_bytes(bomb)
    (root / "owners" / "planted.pickle").write_bytes(bomb)
    for key in ("size_limit", "eviction_policy", "disk_pickle_protocol"):
        vandal.run("UPDATE Settings SET value = ? WHERE key = ?", bomb, key)
    vandal.run("INSERT OR REPLACE INTO Settings VALUES ('planted', ?)", bomb)
    crc = crc32(bomb)  # who can plant can count
    columns = "payload = ?, payload_crc = ?, result = ?, result_crc = ?"
    vandal.run(f"UPDATE {JOB} SET {columns} WHERE run_id = 'a'", bomb, crc, bomb, crc)
    vandal.run(f"UPDATE {JOB} SET headers = ? WHERE run_id = 'b'", bomb)


def test_a_planted_pickle_is_unpickled_by_no_path_of_ours(tmp_path: Path) -> None:
    root, exploded = tmp_path / "store", tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(exploded))
    pickle.loads(bomb)
    assert exploded.is_dir(), "the bomb is none"
    exploded.rmdir()
    with Queue.open(root, durability="relaxed") as queue:
        runtime = WorkflowRuntime(queue, lambda step: Succeed(step.payload))
        for name in "abc":
            runtime.submit(run_id=name)
        plant(root, bomb)
        runtime.run_until_idle(LIMIT)
        assert runtime.wait("a", 0).result == bomb, "bytes are bytes, whatever they could be"
        assert runtime.wait("c", 0).result == b""
    for _ in range(2):
        with Queue.open(root, durability="relaxed") as queue:  # puts the settings right
            queue.list_jobs("workflow-steps")
            queue.handle.store.sweep()
    attached = StoreCache.attach(root / "db")
    try:
        for call in (
            lambda: attached.get("value"), lambda: attached["file"], lambda: list(attached),
            lambda: attached.pop("value"), lambda: attached.peek(), lambda: attached.peekitem(),
            lambda: attached.pull(),
            lambda: attached.get("expired", tag=True), lambda: attached.read("file"), lambda: list(reversed(attached)),
            lambda: attached.cull(), lambda: attached.expire(), lambda: attached.check(),
        ):  # fmt: skip
            try:
                call()
            except (TypeError, KeyError, FileNotFoundError):
                pass
            except Warning as told:
                assert "planted" in str(told) or "unknown" in str(told).lower()
            assert not exploded.exists(), "something was unpickled"
    finally:
        attached.close()
    assert not exploded.exists(), "something was unpickled"


def test_a_plain_cache_would_have_unpickled_it(tmp_path: Path) -> None:
    root, exploded = tmp_path / "store", tmp_path / "exploded"
    Queue.open(root, durability="relaxed").close()
    plant(root, pickle.dumps(Bomb(exploded)))
    vandal = Vandal(root)
    vandal.run("DELETE FROM Settings WHERE key = 'planted' OR typeof(value) = 'blob'")
    with diskcache.Cache(str(root / "db")) as plain:
        assert plain["value"] is None
    assert exploded.is_dir()


def test_a_newer_store_is_refused_while_an_older_process_has_it_open(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Queue.open(root, durability="relaxed") as queue:
        queue.enqueue("q", b"x")
        vandal = Vandal(root)
        vandal.run(f"UPDATE {META} SET value = value + 1 WHERE key = 'schema'")
        before = vandal.run(f"SELECT * FROM {META}"), vandal.run("SELECT * FROM Settings ORDER BY key")
        for exclusive in (False, True):
            with pytest.raises(SchemaVersionError, match="upgrade"):
                Queue.open(root, durability="relaxed", exclusive=exclusive)
        assert (vandal.run(f"SELECT * FROM {META}"), vandal.run("SELECT * FROM Settings ORDER BY key")) == before
        assert len(os.listdir(root / "owners")) == 1, "whoever was refused left an owner's lock"
    with pytest.raises(SchemaVersionError):
        Queue.open(root)
    assert os.listdir(root / "owners") == []


def test_a_store_without_its_tables_is_told_from_a_new_one(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Queue.open(root, durability="relaxed") as queue:
        queue.enqueue("q", b"x")
    vandal = Vandal(root)
    vandal.run(f"DROP TABLE {JOB}")
    try:
        with Queue.open(root, durability="relaxed") as queue:
            with pytest.raises(StorageError):
                queue.enqueue("q", b"x")
            with pytest.raises(StorageError):
                queue.list_jobs("q")
    except StorageError as error:
        assert str(root) in str(error)
