"""One handle alone, waiting for the others to go, and the opening lock that it is decided under."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import filelock
import pytest

from taquba_workflow_sync.errors import StorageError, StoreInUseError
from taquba_workflow_sync.storage.embedded import lifecycle as lifecycle_module
from taquba_workflow_sync.storage.embedded import locks as locks_module
from taquba_workflow_sync.storage.embedded import store as store_module
from taquba_workflow_sync.storage.embedded.lifecycle import Lifecycle
from taquba_workflow_sync.storage.embedded.locks import opening
from taquba_workflow_sync.storage.embedded.owners import living_owners, pid_of
from taquba_workflow_sync.storage.embedded.store import open_store
from taquba_workflow_sync.storage.port.store import OpenOptions
from taquba_workflow_sync.storage.relational.presence import Evidence
from taquba_workflow_sync.storage.relational.sql import names as sql
from tests.storage.bench import claim, claims, put_one, status

from .callers import LIMIT, Caller
from .conftest import OpenEmbedded, open_at
from .holder import HOLD, lock_files
from .raw import Child, raw


def test_an_exclusive_open_is_refused_while_a_handle_is_open_in_this_process(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    with pytest.raises(StoreInUseError, match=f"process {os.getpid()}"):
        open_embedded(is_exclusive=True)
    store.close()
    open_embedded(is_exclusive=True)


def test_any_open_is_refused_while_an_exclusive_one_is(open_embedded: OpenEmbedded) -> None:
    store = open_embedded(is_exclusive=True)
    for exclusive in (False, True):
        with pytest.raises(StoreInUseError, match=f"process {os.getpid()}"):
            open_embedded(is_exclusive=exclusive)
    store.close()
    open_embedded()


@pytest.mark.parametrize(("theirs", "mine"), [("shared", True), ("exclusive", False), ("exclusive", True)])
def test_the_holder_in_another_process_is_named_by_its_pid(
    open_embedded: OpenEmbedded, root: Path, theirs: str, mine: bool
) -> None:
    with Child(HOLD, root, theirs) as child:
        child.read()
        with pytest.raises(StoreInUseError, match=f"process {child.process.pid}") as caught:
            open_embedded(is_exclusive=mine)
        assert not caught.value.is_permanent
        child.tell()
        assert child.read() == "closed"
    open_embedded(is_exclusive=mine)


def test_a_killed_exclusive_holder_stands_in_nobodys_way(open_embedded: OpenEmbedded, root: Path) -> None:
    with Child(HOLD, root, "exclusive") as child:
        child.read()
        child.kill()
        open_embedded(is_exclusive=True)


def test_a_refused_open_leaves_no_lock_and_no_claim_on_the_store(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded(is_exclusive=True)
    with pytest.raises(StoreInUseError):
        open_embedded()
    assert lock_files(root) == {store._lifecycle.owner.id}
    assert status(store, put_one(store)) == "pending"


def test_an_exclusive_handle_takes_over_the_claims_of_the_dead(open_embedded: OpenEmbedded, root: Path) -> None:
    first = open_embedded()
    put_one(first)
    claim(first)
    first.close()
    store = open_embedded(is_exclusive=True)
    assert len(claims(store, abandoned=store.abandoned_claims())) == 1


@pytest.mark.parametrize("is_exclusive", [True, False])
def test_an_open_waits_for_the_others_to_go(open_embedded: OpenEmbedded, is_exclusive: bool) -> None:
    first = open_embedded(is_exclusive=not is_exclusive)
    opener = Caller(lambda: open_embedded(is_exclusive=is_exclusive, wait_s=LIMIT))
    opener.join(0.1)
    assert opener.is_alive()
    first.close()
    opener.answer()


def test_an_open_waits_no_longer_than_it_was_told(open_embedded: OpenEmbedded) -> None:
    open_embedded()
    began = time.monotonic()
    with pytest.raises(StoreInUseError):
        open_embedded(is_exclusive=True, wait_s=0.1)
    assert 0.1 <= time.monotonic() - began < LIMIT


def test_who_lives_is_told_and_who_died_is_not(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    put_one(store)
    with Child(HOLD, root, "claim") as child:
        owner = child.read()
        assert set(living_owners(root / "owners")) == {owner, store._lifecycle.owner.id}
        assert pid_of(owner) == str(child.process.pid)
        child.kill()
    assert living_owners(root / "owners") == [store._lifecycle.owner.id]


# The opening lock


class _Meeting:
    """Two openers of which the first, once it has found itself alone, waits for the second to do so, too."""

    def __init__(self) -> None:
        self.alone: list[int] = []
        self.first_is_alone = threading.Event()
        self.second_is_alone = threading.Event()

    def __call__(self, point: str) -> None:
        if point != "take-owner:alone":
            return
        self.alone.append(threading.get_ident())
        if len(self.alone) == 1:
            self.first_is_alone.set()
            self.second_is_alone.wait(0.5)
        else:
            self.second_is_alone.set()


def _open_two_exclusively(open_embedded: OpenEmbedded) -> list[BaseException | None]:
    meeting = _Meeting()
    first = Caller(lambda: open_embedded(is_exclusive=True, failpoint=meeting))
    assert meeting.first_is_alone.wait(LIMIT)
    second = Caller(lambda: open_embedded(is_exclusive=True, failpoint=meeting))
    for opener in (first, second):
        opener.join(LIMIT)
    return [opener.error for opener in (first, second)]


def test_two_that_open_at_once_are_not_both_the_only_one(open_embedded: OpenEmbedded, root: Path) -> None:
    open_embedded().close()
    first, second = _open_two_exclusively(open_embedded)
    assert first is None
    assert isinstance(second, StoreInUseError)


def test_without_the_opening_lock_they_would_be(open_embedded: OpenEmbedded, monkeypatch: pytest.MonkeyPatch) -> None:
    open_embedded().close()
    monkeypatch.setattr(lifecycle_module, "opening", lambda _: nullcontext())
    assert _open_two_exclusively(open_embedded) == [None, None]


def test_a_relative_path_in_a_deleted_working_directory_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(StorageError, match=r"'jobs' is relative.*deleted"):
        open_store("jobs", OpenOptions())


@pytest.mark.parametrize("when", ["opening", "closing"])
def test_a_lock_that_cannot_be_unlocked_is_logged_and_no_error(
    open_embedded: OpenEmbedded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    """What was done under it is done, and the process's end unlocks it."""
    release = filelock.FileLock.release

    def fail(lock: filelock.BaseFileLock, force: bool = False) -> None:
        release(lock, force)
        raise OSError(errno.EIO, "Input/output error")

    store = open_embedded()
    with monkeypatch.context() as patched:
        patched.setattr(filelock.FileLock, "release", fail)
        if when == "closing":
            store.close()
        else:
            store = open_embedded()
    assert "cannot unlock" in caplog.text
    if when == "opening":
        assert status(store, put_one(store)) == "pending"


def test_an_opening_lock_that_cannot_be_used_is_a_storage_error(root: Path) -> None:
    (root / "open.lock").mkdir(parents=True)
    with pytest.raises(StorageError):
        open_at(root)


def test_opening_is_exclusive_between_threads_and_handles(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    root.mkdir(mode=0o700)
    monkeypatch.setattr(locks_module, "_OPEN_TIMEOUT", 0.05)
    with opening(root):
        with pytest.raises(StorageError, match=r"open\.lock"):
            with opening(root):
                raise AssertionError("two were inside")
    with opening(root):
        pass


def test_a_foreign_file_beside_the_locks_is_nobodys_lock(open_embedded: OpenEmbedded, root: Path) -> None:
    (root / "owners").mkdir(parents=True, mode=0o700)
    (root / "owners" / "README").write_text("not a lock")
    root.chmod(0o700)
    store = open_embedded()
    put_one(store)
    claim(store)
    assert store.abandoned_claims() == Evidence()
    assert (root / "owners" / "README").exists()
    with raw(root) as connection:
        assert connection.execute(f"SELECT count(*) FROM {sql.JOB} WHERE status = 'claimed'").fetchone() == (1,)


def test_what_waits_for_an_upgrade_waits_that_much_less_for_the_owner_lock(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()
    deadlines: list[float] = []

    def note(original: Callable[..., None]) -> Callable[..., None]:
        def noting(*arguments: Any) -> None:
            deadlines.append(arguments[-1])
            original(*arguments)

        return noting

    monkeypatch.setattr(store_module, "prepare", note(store_module.prepare))
    monkeypatch.setattr(Lifecycle, "begin", note(Lifecycle.begin))
    open_at(root, wait_s=3600.0).close()

    first, second = deadlines
    assert first == second
    assert began + 3600 <= first <= time.monotonic() + 3600
