"""Directories 0700 and files 0600 from the moment they exist; what others may write to is refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.wakeup import WakeUp
from tests.storage.bench import put_one


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(root: Path) -> dict[str, str]:
    found = {".": root, **{str(each.relative_to(root)): each for each in root.rglob("*")}}
    return {name: stat.filemode(path.stat().st_mode) for name, path in found.items()}


@pytest.mark.usefixtures("no_umask")
def test_everything_is_private_even_without_an_umask(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "er" / "store"
    store = EmbeddedStore(root)
    try:
        put_one(store, payload=b"x" * 10_000)
        store.wait_for_changes(None, 0.0, WakeUp())
        seen = modes(root)
    finally:
        store.close()
    assert {"cache.db", "cache.db-wal", "cache.db-shm"} <= {name.removeprefix("db/") for name in seen}
    for name, mode in seen.items():
        assert mode == ("drwx------" if mode.startswith("d") else "-rw-------"), name
    for parent in ("deep", "deep/er"):
        assert stat.S_IMODE((tmp_path / parent).stat().st_mode) == 0o700


@pytest.mark.usefixtures("no_umask")
def test_the_database_is_private_from_its_first_moment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Made O_EXCL 0600: a chmod afterwards would leave a moment in which anybody could open it.
    made: dict[str, int] = {}
    opened = os.open

    def watching(path: object, flags: int, mode: int = 0o777, **rest: object) -> int:
        descriptor = opened(path, flags, mode, **rest)  # type: ignore[arg-type]  # passed on as they are
        if flags & os.O_CREAT:
            made[Path(str(path)).name] = stat.S_IMODE(os.fstat(descriptor).st_mode)
        return descriptor

    monkeypatch.setattr(os, "open", watching)
    EmbeddedStore(root).close()
    assert made["cache.db"] == 0o600


@pytest.mark.parametrize(("mode", "who"), [(0o777, "every user"), (0o707, "every user"), (0o770, "its group")])
@pytest.mark.parametrize("which", [".", "db", "owners"])
def test_a_directory_that_others_may_write_to_is_refused(root: Path, which: str, mode: int, who: str) -> None:
    EmbeddedStore(root).close()
    (root / which).chmod(mode)
    with pytest.raises(StorageError, match=f"writable by {who}"):
        EmbeddedStore(root)


def test_a_sticky_directory_is_no_store(root: Path) -> None:
    root.mkdir()
    root.chmod(0o1777)
    with pytest.raises(StorageError, match="chmod 0700"):
        EmbeddedStore(root)
    assert list(root.iterdir()) == []


def test_a_directory_that_others_may_only_read_is_taken(root: Path) -> None:
    root.mkdir(mode=0o755)
    EmbeddedStore(root).close()


@pytest.mark.parametrize("where", ["", "db", "owners"])
def test_a_file_where_a_directory_belongs_is_refused(root: Path, where: str) -> None:
    if where:
        root.mkdir(mode=0o700)
    (root / where).touch() if where else root.touch()
    with pytest.raises(StorageError):
        EmbeddedStore(root)


@pytest.mark.parametrize("where", ["", "db", "owners"])
def test_a_symbolic_link_to_nothing_is_refused(root: Path, tmp_path: Path, where: str) -> None:
    if where:
        root.mkdir(mode=0o700)
    (root / where if where else root).symlink_to(tmp_path / "nothing")
    with pytest.raises(StorageError, match="symbolic link"):
        EmbeddedStore(root)
    assert not (tmp_path / "nothing").exists()


def test_a_planted_link_in_place_of_the_database_is_not_followed(root: Path, tmp_path: Path) -> None:
    (root / "db").mkdir(parents=True, mode=0o700)
    (root / "db" / "cache.db").symlink_to(tmp_path / "planted")
    with pytest.raises(StorageError):
        EmbeddedStore(root)
    assert not (tmp_path / "planted").exists()


def test_a_planted_link_in_place_of_the_opening_lock_is_not_followed(root: Path, tmp_path: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "open.lock").symlink_to(tmp_path / "planted")
    with pytest.raises(StorageError):
        EmbeddedStore(root)
    assert not (tmp_path / "planted").exists()


def test_a_store_behind_a_link_to_a_directory_is_the_same_store(root: Path, tmp_path: Path) -> None:
    store = EmbeddedStore(root)
    try:
        job_id = put_one(store)
        link = tmp_path / "link"
        link.symlink_to(root)
        other = EmbeddedStore(link)
        try:
            assert other.get(job_id) is not None
        finally:
            other.close()
    finally:
        store.close()


def test_the_creation_of_directories_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[str] = set()
    fsync = os.fsync

    def watching(descriptor: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watching)
    EmbeddedStore(tmp_path / "a" / "store").close()
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "store")} <= synced
