"""One commit: that it fails, the time it goes by, and another process that writes or closes meanwhile."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync.errors import ClaimLostError, StorageError
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.settlement import Ack, Advance
from taquba_workflow_sync.testing import ManualClock
from tests.storage.bench import (
    QUEUE,
    claim,
    claims,
    ending,
    job,
    put,
    put_one,
    put_run,
    run,
    status,
    version_of,
)

from .callers import LIMIT, Caller, Faults, one_batch, until
from .conftest import OpenEmbedded, open_at
from .raw import raw


@pytest.fixture
def store(open_embedded: OpenEmbedded, faults: Faults) -> EmbeddedStore:
    return open_embedded(failpoint=faults)


# The COMMIT fails


class _FailingCommit:
    """A writer whose next COMMIT fails, before or after it has happened."""

    def __init__(self, connection: sqlite3.Connection, *, happens: bool) -> None:
        self._connection = connection
        self._happens = happens
        self.commits = 0

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == "COMMIT":
            self.commits += 1
            if self.commits == 1:
                if self._happens:
                    self._connection.execute(statement)
                raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("happens", [False, True], ids=["not happened", "happened"])
def test_a_failed_commit_is_unknown_to_all_of_its_batch_and_never_repeated(
    store: EmbeddedStore, faults: Faults, happens: bool
) -> None:
    put_one(store, "another queue")
    heard: list[object] = []
    with store.on_commit(lambda woken, ended: heard.append(woken)):
        with one_batch(store, faults, 5):
            callers = [Caller(lambda: put_one(store)) for _ in range(5)]
            until(lambda: len(store._commits._line) == 5)
            failing = _FailingCommit(store._connections.writer(), happens=happens)
            # The first caller's own transaction is at its COMMIT already, on the real connection.
            store._connections._writer = failing  # type: ignore[assignment]  # stands for a connection
        for caller in callers:
            with pytest.raises(StorageError, match="unknown"):
                caller.answer()
    assert failing.commits == 1
    assert len({id(caller.error) for caller in callers}) == 5, "each has an exception of its own"
    assert not next(iter([StorageError("")])).is_permanent
    written = store.counts()[QUEUE].pending if QUEUE in store.counts() else 0
    assert written == (5 if happens else 0)
    assert status(store, put_one(store)) == "pending", "the store works on"


def test_a_settlement_repeated_after_an_unknown_commit_is_told_that_it_was_settled(
    store: EmbeddedStore, faults: Faults
) -> None:
    put_run(store)
    held = claim(store)
    store._connections._writer = _FailingCommit(store._connections.writer(), happens=True)  # type: ignore[assignment]
    (error,), _ = store.settle_and_claim([ending(held, Ack(result=b"x"))], [])
    assert isinstance(error, StorageError)
    (again,), _ = store.settle_and_claim([ending(held, Ack(result=b"x"))], [])
    assert isinstance(again, ClaimLostError)
    assert status(store, held.id) == "done"


# The clock


def test_a_clock_of_the_user_that_fails_writes_nothing_and_is_told(open_embedded: OpenEmbedded) -> None:
    class Broken(ManualClock):
        is_broken = False

        def now(self):  # type: ignore[no-untyped-def]  # as its base
            if self.is_broken:
                raise LookupError("no time")
            return super().now()

    clock = Broken()
    store = open_embedded(clock=clock)
    clock.is_broken = True
    with pytest.raises(StorageError, match="clock"):
        put_one(store)
    clock.is_broken = False
    assert store.counts() == {}
    assert status(store, put_one(store)) == "pending"


def test_a_clock_of_the_user_is_read_outside_the_transaction(open_embedded: OpenEmbedded) -> None:
    class Watching(ManualClock):
        store: EmbeddedStore | None = None
        seen: list[bool] = []  # noqa: RUF012  # one instance in one test

        def now(self):  # type: ignore[no-untyped-def]  # as its base
            writer = None if self.store is None else self.store._connections._writer
            if writer is not None:
                self.seen.append(writer.in_transaction)
            return super().now()

    clock = Watching()
    clock.store = store = open_embedded(clock=clock)
    put(store, job(), job())
    claims(store)
    assert clock.seen and not any(clock.seen)


def test_a_clock_is_read_once_in_each_transaction(open_embedded: OpenEmbedded) -> None:
    # Several reads in one settlement could disagree: here each would be a second later.
    class Hasty(ManualClock):
        def now(self):  # type: ignore[no-untyped-def]  # as its base
            moment = super().now()
            self.advance(1)
            return moment

    store = open_embedded(clock=Hasty())
    ids = put(store, run("a"), run("b"))
    assert len({store.get(each).enqueued_ms for each in ids}) == 1  # type: ignore[union-attr]
    held = claims(store)
    assert len({(row.claimed_ms, row.lease_until_ms) for row in held}) == 1
    store.settle_and_claim([ending(held[0], Ack()), ending(held[1], Advance(b"x"))], [])
    done = store.get(held[0].id)
    assert done is not None
    assert store.history(held[0].id)[0].ended_ms == done.finished_ms == store.history(held[1].id)[0].ended_ms


# Another process


def test_a_write_waits_for_the_lock_of_another_program(store: EmbeddedStore, root: Path) -> None:
    put_one(store)
    with raw(root) as connection:
        connection.execute("BEGIN IMMEDIATE")
        caller = Caller(lambda: put_one(store))
        until(lambda: store._commits._transactor.writer.others_write)
        assert caller.is_alive()
        connection.execute("ROLLBACK")
        assert status(store, caller.answer()) == "pending"


def test_reads_go_on_while_another_program_holds_the_write_lock(store: EmbeddedStore, root: Path) -> None:
    job_id = put_one(store)
    with raw(root) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert status(store, job_id) == "pending"
        version_of(store)
        connection.execute("ROLLBACK")


def test_a_lock_held_for_too_long_is_a_transient_error_that_says_so(
    store: EmbeddedStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taquba_workflow_sync.storage.embedded import commit

    put_one(store)
    monkeypatch.setattr(commit, "BEGIN_TIMEOUT", 0.05)
    with raw(root) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="locked by another process") as caught:
            put_one(store)
        connection.execute("ROLLBACK")
    assert not caught.value.is_permanent
    assert status(store, put_one(store)) == "pending"


def test_a_write_that_meets_the_close_is_done_or_refused_but_opens_nothing_again(root: Path) -> None:
    # The user's clock is read before BEGIN: it holds the write at a moment when close() can run past it.
    class Holding(ManualClock):
        held = threading.Event()
        go = threading.Event()
        is_holding = False

        def now(self):  # type: ignore[no-untyped-def]  # as its base
            if self.is_holding:
                self.held.set()
                assert self.go.wait(LIMIT)
            return super().now()

    clock = Holding()
    store = open_at(root, clock=clock)
    new = NewJob("late", QUEUE, b"x")
    clock.is_holding = True
    caller = Caller(lambda: store.insert([new]))
    assert clock.held.wait(LIMIT)
    closer = Caller(store.close)
    closer.join(0.2)  # it may wait for the write, or go past it: both are right
    clock.is_holding = False
    clock.go.set()
    closer.answer()
    caller.join(LIMIT)
    assert not caller.is_alive()
    connections = store._connections
    watchers = [watcher.connection for watcher in connections._idle_watchers]
    left = [connections._writer, connections._checkpointer, *watchers, *connections._idle_readers]
    for connection in left:
        if connection is not None:
            connection.close()
    assert [each for each in left if each is not None] == [], "a connection was opened after the close"
