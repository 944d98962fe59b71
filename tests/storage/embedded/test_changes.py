"""Waiting for commits: of other processes, of this one, and for a clock that is moved."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from taquba_workflow_sync.errors import StorageError, StoreClosedError
from taquba_workflow_sync.storage.embedded import changes as changes_module
from taquba_workflow_sync.storage.embedded import connections as connections_module
from taquba_workflow_sync.storage.port.changes import Changes
from taquba_workflow_sync.storage.relational.sql.names import QUEUE as QUEUES
from taquba_workflow_sync.testing import ManualClock
from taquba_workflow_sync.wakeup import WakeUp
from tests.storage.bench import put_one, version_of

from .callers import LIMIT, Caller, until
from .conftest import OpenEmbedded
from .raw import Child, raw

SUBMIT = """
import sys
from pathlib import Path
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.job import NewJob
store = EmbeddedStore(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.readline()
store.insert([NewJob("theirs", "steps", b"x")])
print("committed", flush=True)
sys.stdin.readline()
store.close()
"""


def test_a_wait_ends_when_another_process_commits(open_embedded: OpenEmbedded, root: Path) -> None:
    """Without a wake-up of its own: the wait looks by itself."""
    store = open_embedded()
    with Child(SUBMIT, root) as child:
        assert child.read() == "open"
        since = version_of(store)
        waiter = Caller(lambda: store.wait_for_changes(since, LIMIT, WakeUp()))
        assert not store.wait_for_changes(since, 0.05, WakeUp()).are_new
        child.tell()
        assert child.read() == "committed"
        changes = waiter.answer()
    assert changes.are_new and changes.version != since


def test_a_wait_ends_when_this_process_commits(open_embedded: OpenEmbedded) -> None:
    store, other = open_embedded(), open_embedded()
    since = version_of(store)
    waiter = Caller(lambda: store.wait_for_changes(since, LIMIT, WakeUp()))
    put_one(other)
    assert waiter.answer().are_new


def test_nothing_new_is_told_after_the_time_and_the_same_version(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    put_one(store)
    since = version_of(store)
    assert store.wait_for_changes(since, 0.02, WakeUp()) == Changes(since, False)
    assert store.wait_for_changes(since, 0.0, WakeUp()) == Changes(since, False)


def test_a_commit_before_the_wait_is_not_missed(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    since = version_of(store)
    put_one(store)
    assert store.wait_for_changes(since, LIMIT, WakeUp()).are_new


def test_a_wake_up_ends_the_wait_though_nothing_is_new(open_embedded: OpenEmbedded) -> None:
    store, wakeup = open_embedded(), WakeUp()
    since = version_of(store)
    waiter = Caller(lambda: store.wait_for_changes(since, LIMIT, wakeup))
    wakeup.notify()
    assert waiter.answer() == Changes(since, False)


def test_a_clock_that_is_moved_ends_every_wait(open_embedded: OpenEmbedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "_LOOK_WHEN_IDLE", LIMIT)
    monkeypatch.setattr(changes_module, "_LOOK_WHEN_ACTIVE", LIMIT)
    clock = ManualClock()
    store = open_embedded(clock=clock)
    since = version_of(store)
    waiters = [Caller(lambda: store.wait_for_changes(since, LIMIT, WakeUp())) for _ in range(3)]
    until(lambda: len(store._changes._sleeping) == 3)
    clock.advance(1)
    assert all(waiter.answer().are_new for waiter in waiters)
    assert store.wait_for_changes(since, 0.0, WakeUp()).are_new, "moved before the wait is not missed either"


def test_a_closed_store_hears_of_its_clock_no_more(open_embedded: OpenEmbedded) -> None:
    clock = ManualClock()
    store = open_embedded(clock=clock)
    assert clock._listeners
    store.close()
    assert not clock._listeners


def test_a_wait_ends_when_the_store_is_closed(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    since = version_of(store)
    waiter = Caller(lambda: store.wait_for_changes(since, LIMIT, WakeUp()))
    until(lambda: bool(store._changes._sleeping))
    store.close()
    with pytest.raises(StoreClosedError):
        waiter.answer()


def test_many_may_wait_at_once_and_each_is_told(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    since = version_of(store)
    waiters = [Caller(lambda: store.wait_for_changes(since, LIMIT, WakeUp())) for _ in range(20)]
    put_one(store)
    assert all(waiter.answer().are_new for waiter in waiters)
    assert len(store._connections._idle_watchers) <= 2, "they share the connection that looks"


def test_looks_are_frequent_after_a_commit_and_rare_when_nothing_happens(
    open_embedded: OpenEmbedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    class Noting(WakeUp):
        def wait(self, timeout: float | None) -> bool:
            assert timeout is not None
            pauses.append(timeout)
            return super().wait(min(timeout, 0.001))

    store = open_embedded()
    put_one(store)
    since = version_of(store)
    store.wait_for_changes(since, 0.1, Noting())
    assert max(pauses) <= changes_module._LOOK_WHEN_ACTIVE
    pauses.clear()
    monkeypatch.setattr(changes_module.time, "monotonic", lambda: _later())
    store.wait_for_changes(since, 0.1, Noting())
    assert max(pauses) == changes_module._LOOK_WHEN_IDLE


_monotonic = time.monotonic


def _later() -> float:
    return _monotonic() + 2 * changes_module._ACTIVE_FOR


def test_a_look_while_another_thread_looks_waits_for_it_and_finds_what_is_there(
    open_embedded: OpenEmbedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the other one finds may be older than what this one has read, and asks about: whether it is still so."""
    is_waiting = threading.Event()

    class Telling(WakeUp):
        def wait(self, timeout: float | None) -> bool:
            is_waiting.set()
            return super().wait(timeout)

    monkeypatch.setattr(connections_module, "WakeUp", Telling)
    monkeypatch.setattr(connections_module, "_TRIES", 1_000_000)
    store = open_embedded()
    since = version_of(store)
    watcher = store._connections._idle_watchers.pop()  # as a thread that looks has it
    put_one(store)
    looker = Caller(lambda: store.wait_for_changes(since, 0.0, WakeUp()))
    assert is_waiting.wait(LIMIT)
    store._connections._idle_watchers.append(watcher)
    assert looker.answer().are_new


def test_a_look_that_another_thread_keeps_from_looking_tells_of_a_change(open_embedded: OpenEmbedded) -> None:
    """There may be one: a thread that the machine has put aside is waited for only so long."""
    store = open_embedded()
    since = version_of(store)
    watcher = store._connections._idle_watchers.pop()
    assert store.wait_for_changes(since, 0.0, WakeUp()).are_new
    store._connections._idle_watchers.append(watcher)


def test_a_look_that_was_lost_to_an_interruption_is_made_up_for(open_embedded: OpenEmbedded) -> None:
    """The one connection that looks is in the hands of who looks; it may be dropped there with a frame."""
    store = open_embedded()
    since = version_of(store)
    store._connections._idle_watchers.clear()
    put_one(store)
    assert store.wait_for_changes(since, LIMIT, WakeUp()).are_new


def test_a_failed_look_is_a_storage_error(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    version_of(store)
    (root / "db" / "cache.db").rename(root / "db" / "elsewhere")
    with pytest.raises(StorageError, match="deleted, moved or replaced"):
        version_of(store)
    (root / "db" / "elsewhere").rename(root / "db" / "cache.db")
    assert version_of(store) is not None


def test_listeners_hear_of_this_handles_commits_while_they_listen(open_embedded: OpenEmbedded) -> None:
    store, other = open_embedded(), open_embedded()
    heard: list[tuple[frozenset[str], frozenset[str]]] = []
    with store.on_commit(lambda queues, ended: heard.append((queues, ended))):
        put_one(store)
        put_one(other)
    put_one(store)
    assert heard == [(frozenset({"steps"}), frozenset())]


def test_a_listener_that_fails_takes_no_answer_along(
    open_embedded: OpenEmbedded, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: frozenset[str], __: frozenset[str]) -> None:
        raise LookupError("a listener of ours")

    store = open_embedded()
    with store.on_commit(fail):
        put_one(store)
    with raw(store._lifecycle.root) as connection:
        assert connection.execute(f"SELECT total(pending) FROM {QUEUES}").fetchone() == (1,)
    assert "a listener failed after a commit" in caplog.text


def test_a_wait_never_holds_up_a_fork(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    since = version_of(store)
    is_over = threading.Event()
    waiter = Caller(lambda: [store.wait_for_changes(since, 0.002, WakeUp()) for _ in iter(is_over.is_set, True)])
    for _ in range(20):
        store._lifecycle.before_fork()
        assert not store._connections._idle_watchers
        store._lifecycle.after_fork_in_parent()
    is_over.set()
    waiter.answer()
