"""A backup: of one moment, while others write; whole or no store at all; its first open takes claims back."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from taquba_workflow_sync.errors import StorageError, StoreClosedError
from taquba_workflow_sync.storage.embedded import backup as backup_module
from taquba_workflow_sync.storage.embedded.cache import DATABASE_NAME
from taquba_workflow_sync.storage.embedded.store import restore_store
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.settlement import Ack
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus
from taquba_workflow_sync.storage.port.store import Durability
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.transitions import restore
from taquba_workflow_sync.testing import ManualClock
from tests.storage.bench import (
    ACTIONS,
    LANE,
    QUEUE,
    claim,
    claims,
    dump,
    job,
    put,
    put_one,
    run,
    settle,
    status,
    stored,
)

from .conftest import OpenEmbedded, open_at
from .raw import Child, raw

KILL = """
import os, signal, sys
from pathlib import Path
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.store import OpenOptions
def fail(point):
    if point.startswith(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
store = EmbeddedStore(Path(sys.argv[1]), OpenOptions(failpoint=fail))
store.backup(sys.argv[2])
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backups" / "first"


def test_a_backup_shows_all_that_the_store_shows(open_embedded: OpenEmbedded, target: Path) -> None:
    store = open_embedded()
    store.subscribe(QUEUE, Subscription(LANE, 3, None))
    for number, action in enumerate(ACTIONS.values()):
        put(store, run(f"run-{number}", b"x" * (5000 if number % 2 else 1), max_attempts=50))
        settle(store, claim(store), action)
    store.backup(str(target))
    copy = open_at(target)
    assert dump(copy) == dump(store)
    assert copy.check() == []
    copy.close()


def test_a_backup_is_a_private_store_of_its_own(open_embedded: OpenEmbedded, target: Path) -> None:
    store = open_embedded()
    put_one(store)
    store.backup(str(target))
    found = {path.relative_to(target).as_posix(): path for path in target.rglob("*")}
    assert found.keys() == {"db", "db/cache.db", "owners"}
    for path in (target, *found.values()):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    copy = open_at(target, is_exclusive=True)  # whoever has the store open has not this one
    put_one(copy, "only here")
    assert "only here" not in store.counts()
    copy.close()


def test_claims_are_taken_back_by_the_first_open_of_a_backup(open_embedded: OpenEmbedded, target: Path) -> None:
    """By the rule of what was abandoned, bare claims too: their owners work on the other store."""
    store = open_embedded(clock=ManualClock())
    store.subscribe(QUEUE, Subscription(LANE, 3, None))
    again, asked, last = put(store, run("again"), run("asked"), run("last", max_attempts=1))
    bare = put_one(store, "mails")
    held = claims(store)
    claim(store, queue="mails", is_bare=True, lease_ms=10**10)
    store.cancel(asked)
    store.backup(str(target))
    before = dump(store)
    copy = open_at(target)
    assert [status(copy, each) for each in (again, asked, last, bare)] == ["pending", "cancelled", "dead", "pending"]
    assert {each.outcome for each in copy.history(again)} == {AttemptOutcome.REAPED}
    assert {each.error for job_id in (again, asked, last, bare) for each in copy.history(job_id)} == {
        "taken over from a backup"
    }
    assert stored(copy, last).last_error == "out of attempts (1 of 1): taken over from a backup"
    assert sorted(each.id for each in claims(copy, queue=LANE)) == sorted([f"{asked}-1", f"{last}-1"])
    assert claim(copy, queue="mails").attempts == 2
    assert copy.check() == []
    copy.close()
    assert dump(store) == before
    settle(store, next(each for each in held if each.id == again), Ack())


def test_only_the_first_open_takes_claims_back(open_embedded: OpenEmbedded, target: Path) -> None:
    store = open_embedded()
    put_one(store)
    claim(store)
    store.backup(str(target))
    copy = open_at(target)
    held = claim(copy)
    second = open_at(target)
    assert stored(second, held.id).status is JobStatus.CLAIMED
    settle(copy, held, Ack())
    second.close()
    copy.close()
    with raw(target) as connection:
        assert connection.execute(sql.READ_META, (restore.MARK,)).fetchone() is None


def test_more_claims_than_one_commit_takes_back_are_all_taken_back(
    open_embedded: OpenEmbedded, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "REAP_LIMIT", 3)
    store = open_embedded()
    put(store, *(job() for _ in range(10)), *(job("mails") for _ in range(4)))
    claims(store, queue=(QUEUE, "mails"))
    store.backup(str(target))
    copy = open_at(target)
    assert (copy.counts()[QUEUE].pending, copy.counts()["mails"].pending) == (10, 4)
    copy.close()


@pytest.mark.parametrize("point", range(12))
def test_a_first_open_that_is_cut_short_is_completed_by_the_next(
    open_embedded: OpenEmbedded, target: Path, point: int
) -> None:
    class Cut(Exception):
        pass

    store = open_embedded()
    ids = put(store, job(), job(), job("mails"))
    claims(store, queue=(QUEUE, "mails"))
    store.backup(str(target))
    left = [point]

    def fail(at: str) -> None:
        if at.startswith("take-over"):
            left[0] -= 1
            if left[0] < 0:
                raise Cut

    try:
        open_at(target, failpoint=fail).close()
    except (Cut, StorageError):
        pass
    copy = open_at(target)
    assert [status(copy, each) for each in ids] == ["pending"] * 3
    assert [len(copy.history(each)) for each in ids] == [1, 1, 1]
    copy.close()


def test_a_damaged_claim_of_a_backup_does_not_keep_it_from_being_opened(
    open_embedded: OpenEmbedded, target: Path
) -> None:
    store = open_embedded()
    bad, good = put(store, run("bad"), run("good"))
    claims(store)
    with raw(store._connections.root) as connection:
        connection.execute(f"UPDATE {sql.JOB} SET token = 'x.1.99' WHERE id = ?", (bad,))
    store.backup(str(target))
    copy = open_at(target)
    assert (status(copy, bad), status(copy, good)) == ("dead", "pending")
    copy.close()


def test_a_backup_under_load_is_of_one_moment(
    open_embedded: OpenEmbedded, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every commit puts in a pair; the copy holds whole pairs, and those that were there when it began."""
    monkeypatch.setattr(backup_module, "_PIECE", 2)
    pieces: list[str] = []
    written = [0]
    go_on = threading.Event()

    def at(point: str) -> None:
        if point.startswith("backup-piece"):
            pieces.append(point)
            if len(pieces) < 20:
                store.insert([pair(written[0], "a"), pair(written[0], "b")])
                written[0] += 1
        go_on.set()

    def pair(number: int, which: str) -> NewJob:
        return NewJob(id=f"P{number}{which}", queue=QUEUE, payload=b"p" * 3000)

    store = open_embedded(failpoint=at)
    for _ in range(20):
        store.insert([pair(written[0], "a"), pair(written[0], "b")])
        written[0] += 1
    began_with = written[0]
    store.backup(str(target))
    assert len(pieces) >= 20 and written[0] > began_with
    copy = open_at(target)
    assert copy.counts()[QUEUE].pending == 2 * began_with
    assert copy.check() == []
    copy.close()


@pytest.mark.parametrize("what", ["a store", "a file in it", "a file"])
def test_a_backup_never_overwrites_anything(open_embedded: OpenEmbedded, target: Path, what: str) -> None:
    store = open_embedded()
    target.parent.mkdir(parents=True)
    if what == "a store":
        store.backup(str(target))
    elif what == "a file in it":
        target.mkdir(mode=0o700)
        (target / "notes").write_text("mine")
    else:
        target.write_text("mine")
    before = sorted(path.name for path in target.parent.rglob("*"))
    with pytest.raises(StorageError, match=str(target)):
        store.backup(str(target))
    assert sorted(path.name for path in target.parent.rglob("*")) == before


def test_a_backup_goes_into_an_empty_directory(open_embedded: OpenEmbedded, target: Path) -> None:
    target.mkdir(mode=0o700, parents=True)
    store = open_embedded()
    put_one(store)
    store.backup(str(target))
    copy = open_at(target)
    assert copy.counts()[QUEUE].pending == 1
    copy.close()


@pytest.mark.parametrize("what", ["the directory", "the file in it"])
def test_a_store_that_is_open_is_no_backup_though_its_log_is_empty(
    open_embedded: OpenEmbedded, root: Path, target: Path, what: str
) -> None:
    """Its database is not even read: to close the file again would let go of SQLite's locks on it."""
    first = open_embedded()
    put_one(first)
    first.close()
    store = open_embedded()
    assert store.counts()[QUEUE].pending == 1
    log = root / "db" / f"{DATABASE_NAME}-wal"
    assert not log.exists() or log.stat().st_size == 0
    source = root if what == "the directory" else root / "db" / DATABASE_NAME
    with pytest.raises(StorageError, match=f"open in process {os.getpid()}"):
        restore_store(str(source), str(target))
    assert not target.exists()
    put_one(store)
    assert store.check() == []


class Broken(OSError):
    """A disk that fails."""


@pytest.mark.parametrize("point", ["backup-piece", "backup-place:before", "backup-place:after", "backup-sync:before"])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_backup_that_fails_leaves_nothing(
    open_embedded: OpenEmbedded, target: Path, point: str, is_there: bool
) -> None:
    def fail(at: str) -> None:
        if at.startswith(point):
            raise Broken("disk I/O error")

    store = open_embedded(failpoint=fail)
    put_one(store)
    if is_there:
        target.mkdir(mode=0o700, parents=True)
    with pytest.raises(StorageError, match=r"cannot back up .* disk I/O error"):
        store.backup(str(target))
    assert target.exists() == is_there
    assert not is_there or list(target.iterdir()) == []
    assert store.counts()[QUEUE].pending == 1


@pytest.mark.parametrize("point", ["backup-piece", "backup-place:before"])
def test_a_backup_that_is_killed_is_no_store(root: Path, target: Path, point: str) -> None:
    store = open_at(root)
    put_one(store)
    store.close()
    with Child(KILL, root, target, point) as child:
        assert child.wait() == -9
    assert not (target / "db").exists()
    store = open_at(root)
    with pytest.raises(StorageError, match="not empty: it holds a backup that was killed"):
        store.backup(str(target))
    shutil.rmtree(target)
    store.backup(str(target))
    store.close()


def test_everything_of_a_backup_is_synced_before_it_returns(
    open_embedded: OpenEmbedded, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database by SQLite, with synchronous FULL; the directories by us, the place of the database last."""
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.append(path)
        real(descriptor)

    store = open_embedded()
    monkeypatch.setattr(os, "fsync", fsync)
    store.backup(str(target))
    placed = [path for path in synced if path == str(target)]
    assert {str(target / "unfinished-backup"), str(target), str(target.parent)} <= set(synced)
    assert synced.index(str(target / "unfinished-backup")) < len(synced) - synced[::-1].index(str(target)) - 1
    assert placed


def test_a_backup_of_a_relaxed_store_is_durable_too(root: Path, target: Path) -> None:
    store = open_at(root, durability=Durability.RELAXED)
    put_one(store)
    store.backup(str(target))
    store.close()
    copy = open_at(target)
    assert copy.counts()[QUEUE].pending == 1
    copy.close()


def test_a_closed_store_makes_no_backup(open_embedded: OpenEmbedded, target: Path) -> None:
    store = open_embedded()
    store.close()
    with pytest.raises(StoreClosedError):
        store.backup(str(target))
    assert not target.exists()
