"""The order in which connections and their gate are taken, and a database that is gone from under them."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.embedded import connections as connections_module
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.wakeup import WakeUp
from tests.storage.bench import claims, put_one, version_of

from .callers import LIMIT, Caller, Faults, one_batch, until
from .conftest import OpenEmbedded


def test_who_waits_at_a_shut_gate_holds_nothing_that_those_inside_need(open_embedded: OpenEmbedded) -> None:
    """A fork and a close wait for the writer to leave the gate, and it opens the connection that watches."""
    store = open_embedded()
    put_one(store)
    gate = store._connections.gate
    is_waiting = threading.Event()
    enter = gate.enter

    def entering(token: object) -> None:
        is_waiting.set()
        enter(token)

    gate.enter = entering  # type: ignore[method-assign]
    gate.shut()
    looker = threading.Thread(target=version_of, args=(store,))
    looker.start()
    try:
        assert is_waiting.wait(30)
        assert store._connections._idle_watchers
    finally:
        gate.open()
        looker.join(30)
    assert not looker.is_alive()


# A store that is deleted under its handle

CALLS: dict[str, Callable[[EmbeddedStore], object]] = {
    "a write": lambda store: put_one(store),
    "a read": lambda store: store.counts(),
    "a claim": lambda store: claims(store),
    "a look for changes": version_of,
    "a look for the dead": lambda store: store.abandoned_claims(),
    "its own claims": lambda store: store.running(),
    "a sweep": lambda store: store.sweep(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_handle_on_a_deleted_store_says_so_once_and_for_good(
    open_embedded: OpenEmbedded, root: Path, call: Callable[[EmbeddedStore], object], caplog: pytest.LogCaptureFixture
) -> None:
    store = open_embedded()
    put_one(store)
    shutil.rmtree(root)
    for _ in range(3):
        with pytest.raises(StorageError, match="deleted, moved or replaced") as caught:
            call(store)
        assert caught.value.is_permanent, "no retry can help"
        assert str(caught.value).count(str(root)) == 1
    assert not caplog.records
    assert not root.exists(), "nothing is made anew in its place"
    store.close()


def test_a_wait_on_a_deleted_store_ends(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    since = version_of(store)
    waiter = Caller(lambda: store.wait_for_changes(since, LIMIT, WakeUp()))
    shutil.rmtree(root)
    with pytest.raises(StorageError, match="deleted, moved or replaced"):
        waiter.answer()


def test_callers_that_wait_are_told_when_the_store_is_deleted(open_embedded: OpenEmbedded, root: Path) -> None:
    faults = Faults()
    store = open_embedded(failpoint=faults)
    put_one(store, "another queue")
    with one_batch(store, faults, 5):
        callers = [Caller(lambda: put_one(store)) for _ in range(5)]
        until(lambda: len(store._commits._line) == 5)
        shutil.rmtree(root)
    for caller in callers:
        with pytest.raises(StorageError, match="deleted, moved or replaced"):
            caller.answer()
    assert len({id(caller.error) for caller in callers}) == 5, "each has an exception of its own"


# How it is known that the files are still the store's


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are looked at to tell whether they are still the same."""
    seen: list[str] = []
    original = connections_module._identity_of

    def identity_of(path: Path) -> tuple[int, int] | None:
        seen.append(path.name)
        return original(path)

    monkeypatch.setattr(connections_module, "_identity_of", identity_of)
    return seen


def test_the_files_are_not_looked_at_while_nothing_changes_in_their_directory(
    open_embedded: OpenEmbedded, looked_at: list[str]
) -> None:
    store = open_embedded()
    put_one(store)
    time.sleep(2 * connections_module._SETTLED_NS / 1e9)
    put_one(store)
    looked_at.clear()
    for _ in range(20):
        put_one(store)
    assert looked_at == []


@pytest.mark.parametrize("name", ["cache.db", "cache.db-wal"])
@pytest.mark.parametrize("how", ["removed", "replaced", "moved away with its directory"])
def test_a_file_that_was_taken_is_noticed_by_the_next_write(
    open_embedded: OpenEmbedded, root: Path, name: str, how: str
) -> None:
    store = open_embedded()
    put_one(store)
    time.sleep(2 * connections_module._SETTLED_NS / 1e9)
    put_one(store)
    file = root / "db" / name
    if how == "removed":
        file.unlink()
    elif how == "replaced":
        other = root / "db" / "other"
        shutil.copy(file, other)
        other.rename(file)
    else:
        (root / "db").rename(root / "elsewhere")
        shutil.copytree(root / "elsewhere", root / "db")
    with pytest.raises(StorageError, match="deleted"):
        put_one(store)


def test_a_directory_that_has_just_changed_tells_nothing(open_embedded: OpenEmbedded, looked_at: list[str]) -> None:
    """Two changes in one tick of an older kernel's clock have the same time."""
    store = open_embedded()
    put_one(store)
    for number in range(3):
        (store._connections.root / "db" / f"other-{number}").touch()
        looked_at.clear()
        put_one(store)
        put_one(store)
        assert len(looked_at) >= 4, "both files, both times"


def test_a_directory_of_the_future_tells_nothing(open_embedded: OpenEmbedded, root: Path, looked_at: list[str]) -> None:
    store = open_embedded()
    put_one(store)
    tomorrow = time.time() + 86_400
    os.utime(root / "db", (tomorrow, tomorrow))
    looked_at.clear()
    put_one(store)
    assert looked_at
