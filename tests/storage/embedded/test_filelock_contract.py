"""What owner locks rely on in filelock: a forked child that exits or collects garbage leaves its parent's lock be."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import filelock
import pytest

from taquba_workflow_sync.storage.embedded.owners import Owner, is_alive

from .raw import Child

PARENT = """
import gc, os, sys
from pathlib import Path
from taquba_workflow_sync.storage.embedded.owners import Owner
owner = Owner(Path(sys.argv[1]), is_exclusive=False)
owner.take()
how = sys.argv[2]
ready, tell = os.pipe()
wait, go = os.pipe()
child = os.fork()
if child == 0:
    if how == "exits":
        sys.exit(0)
    if how == "exits hard":
        os._exit(0)
    if how == "collects garbage":
        del owner
        gc.collect()
    os.write(tell, b"x")
    os.close(go)          # so that the read ends when the parent is gone and the test lets go
    sys.stdin.readline()  # lives on until the test says so
    os._exit(0)
if how.startswith("exits"):
    os.waitpid(child, 0)
else:
    os.read(ready, 1)
print(owner.id, child, flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("how", ["exits", "exits hard", "collects garbage", "lives on"])
def test_a_forked_child_does_not_unlock_its_parents_lock(owners: Path, me: Owner, how: str) -> None:
    with Child(PARENT, owners, how) as parent:
        owner, _ = parent.read().split()
        for _ in range(3):
            assert is_alive(me.directory, owner) is True


@pytest.mark.parametrize("how", ["collects garbage", "lives on"])
def test_a_killed_parents_lock_is_free_at_once_though_its_child_lives(owners: Path, me: Owner, how: str) -> None:
    with Child(PARENT, owners, how) as parent:
        owner, child = parent.read().split()
        assert is_alive(me.directory, owner) is True
        parent.kill()
        os.kill(int(child), 0)  # the child is there still
        assert is_alive(me.directory, owner) is False


def test_a_lock_held_in_one_thread_is_held_for_all(me: Owner, owners: Path) -> None:
    seen: list[bool | None] = []
    thread = threading.Thread(target=lambda: seen.append(is_alive(owners, me.id)))
    thread.start()
    thread.join(30)
    assert seen == [True]
    assert me._lock.is_locked


def test_a_lock_may_be_let_go_in_another_thread_than_took_it(owners: Path) -> None:
    owner = Owner(owners, is_exclusive=False)
    thread = threading.Thread(target=owner.take)
    thread.start()
    thread.join(30)
    owner.leave(has_claims=True)
    assert is_alive(owners, owner.id) is False


def test_locks_of_one_path_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    first = filelock.FileLock(tmp_path / "x", thread_local=False, is_singleton=False)
    second = filelock.FileLock(tmp_path / "x", thread_local=False, is_singleton=False)
    with first:
        with pytest.raises(filelock.Timeout):
            second.acquire(blocking=False)
    with second:
        pass


def test_acquiring_creates_a_missing_file(tmp_path: Path) -> None:
    # Why the engine looks before it probes: an unlinked file of a living owner would read as "free".
    with filelock.FileLock(tmp_path / "x"):
        assert (tmp_path / "x").exists()


def test_a_file_unlinked_while_it_was_waited_for_is_not_held_as_a_ghost(tmp_path: Path) -> None:
    # A cleaner unlinks a file that a new owner has just opened: the owner must end up on a file that has a name.
    path = tmp_path / "x"
    cleaner = filelock.FileLock(path, thread_local=False, is_singleton=False)
    owner = filelock.FileLock(path, thread_local=False, is_singleton=False)
    cleaner.acquire()
    waiting = threading.Thread(target=lambda: owner.acquire(timeout=30, poll_interval=0.001))
    waiting.start()
    path.unlink()
    cleaner.release()
    waiting.join(60)
    assert owner.is_locked and path.exists()
    third = filelock.FileLock(path, thread_local=False, is_singleton=False)
    with pytest.raises(filelock.Timeout):
        third.acquire(blocking=False)
    owner.release()


def test_the_release_that_is_installed_is_one_that_was_checked() -> None:
    major, minor, *_ = (int(part) for part in filelock.__version__.split(".")[:2])
    assert (4, 2) <= (major, minor) < (5, 0)
