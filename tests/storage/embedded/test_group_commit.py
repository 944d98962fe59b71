"""Callers share a transaction and an fsync; what befalls one of them befalls no other."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from taquba_workflow_sync.errors import ClaimLostError, DuplicateJobIdError, StorageError
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.settlement import Ack
from taquba_workflow_sync.storage.relational.sql import names as sql
from taquba_workflow_sync.storage.relational.transaction import Transaction
from tests.storage.bench import (
    QUEUE,
    claim,
    claims,
    dump,
    ending,
    job,
    put_one,
    settle,
    status,
)

from .callers import LIMIT, Caller, Faults, begins, one_batch, until
from .conftest import OpenEmbedded
from .raw import raw, through


@pytest.fixture
def store(open_embedded: OpenEmbedded, faults: Faults) -> EmbeddedStore:
    return open_embedded(failpoint=faults)


# Sharing


def test_callers_that_wait_together_share_one_commit(store: EmbeddedStore, faults: Faults) -> None:
    put_one(store)
    seen = begins(store)
    with one_batch(store, faults, 10):
        callers = [Caller(lambda: put_one(store)) for _ in range(10)]
    ids = {caller.answer() for caller in callers}
    assert len(ids) == 10 and all(status(store, each) == "pending" for each in ids)
    assert seen.count("COMMIT") == 2, "one of the caller that held the batch up, one of all the others"


def test_nobody_is_answered_before_the_commit(store: EmbeddedStore, faults: Faults) -> None:
    reached, go = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        assert go.wait(LIMIT)

    faults.at["before-commit"] = hold
    caller = Caller(lambda: put_one(store))
    assert reached.wait(LIMIT)
    assert caller.is_alive() and store.counts() == {}
    go.set()
    assert status(store, caller.answer()) == "pending"


# One of them fails


def test_a_refusal_reaches_its_caller_and_no_other(store: EmbeddedStore, faults: Faults) -> None:
    taken = put_one(store)
    stale = claim(store)
    settle(store, stale, Ack())
    taken = put_one(store, id=taken)
    with one_batch(store, faults, 4):
        good = [Caller(lambda: put_one(store)) for _ in range(2)]
        bad = Caller(lambda: store.insert([job(id=taken, id_given=True)]))
        late = Caller(lambda: store.settle_and_claim([ending(stale, Ack())], [])[0])
    assert all(status(store, caller.answer()) == "pending" for caller in good)
    with pytest.raises(DuplicateJobIdError):
        bad.answer()
    assert isinstance(late.answer()[0], ClaimLostError)


class _Breaks:
    """An operation that writes a row and then fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, tx: Transaction, /) -> None:
        tx.execute(f"INSERT INTO {sql.QUEUE} (name) VALUES ('half done')")
        raise self.error


@pytest.mark.parametrize(
    "error",
    [RuntimeError("ours"), ClaimLostError("late"), sqlite3.OperationalError("disk"), MemoryError(), ValueError()],
)
def test_an_operation_that_fails_half_way_leaves_nothing_and_harms_nobody(
    store: EmbeddedStore, faults: Faults, error: Exception
) -> None:
    with one_batch(store, faults, 3):
        before = Caller(lambda: put_one(store))
        bad = Caller(lambda: store._access.write(_Breaks(error)))
        after = Caller(lambda: put_one(store))
    assert status(store, before.answer()) == status(store, after.answer()) == "pending"
    with pytest.raises((StorageError, type(error))):
        bad.answer()
    assert set(store.counts()) == {QUEUE, "another queue"}
    assert not store._connections.writer().in_transaction


def test_jobs_of_one_batch_stay_in_order_though_one_of_them_fails(store: EmbeddedStore, faults: Faults) -> None:
    with one_batch(store, faults, 1):
        bad = Caller(lambda: store._access.write(_Breaks(RuntimeError("ours"))))
    with pytest.raises((StorageError, RuntimeError)):
        bad.answer()
    ids = [put_one(store) for _ in range(3)]
    assert [row.id for row in claims(store)] == ids


# SQLite rolls back by itself


@pytest.fixture
def poisoned(store: EmbeddedStore, root: Path) -> EmbeddedStore:
    """A store where inserting the payload 'poison' rolls the whole transaction back, as a full disk does."""
    put_one(store, "another queue")
    with raw(root) as connection:
        connection.execute(
            f"CREATE TRIGGER poison BEFORE INSERT ON {sql.JOB} WHEN NEW.payload = x'706F69736F6E'"
            " BEGIN SELECT RAISE(ROLLBACK, 'poisoned'); END"
        )
    return store


def test_when_sqlite_rolls_all_back_the_others_are_written_again(poisoned: EmbeddedStore, faults: Faults) -> None:
    with one_batch(poisoned, faults, 5):
        first = [Caller(lambda: put_one(poisoned)) for _ in range(2)]
        until(lambda: len(poisoned._commits._line) == 2)
        bad = Caller(lambda: put_one(poisoned, payload=b"poison"))
        until(lambda: len(poisoned._commits._line) == 3)
        last = [Caller(lambda: put_one(poisoned)) for _ in range(2)]
    with pytest.raises(StorageError, match="nothing was written"):
        bad.answer()
    assert all(status(poisoned, caller.answer()) == "pending" for caller in (*first, *last))
    assert poisoned.counts()[QUEUE].pending == 4


def test_an_answer_given_before_the_rollback_is_not_believed(poisoned: EmbeddedStore, faults: Faults) -> None:
    # A swallowed error: the operation says "well", but its transaction is gone.
    def swallow(tx: Transaction, /) -> str:
        try:
            tx.execute(
                f"INSERT INTO {sql.JOB} (id, queue, status, priority, place, max_attempts, enqueued_ms, payload)"
                " VALUES ('p', 1, 'pending', 1, 1, 1, 1, x'706F69736F6E')"
            )
        except sqlite3.Error:
            pass
        return "well"

    with one_batch(poisoned, faults, 3):
        first = Caller(lambda: put_one(poisoned))
        until(lambda: len(poisoned._commits._line) == 1)
        liar = Caller(lambda: poisoned._access.write(swallow))
        until(lambda: len(poisoned._commits._line) == 2)
        last = Caller(lambda: put_one(poisoned))
    assert status(poisoned, first.answer()) == status(poisoned, last.answer()) == "pending"
    with pytest.raises(StorageError):
        liar.answer()
    assert poisoned.counts()[QUEUE].pending == 2


def test_a_full_disk_refuses_what_does_not_fit_and_works_on(store: EmbeddedStore) -> None:
    small = put_one(store)
    with through(store._connections.gate):
        writer = store._connections.writer()
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(StorageError, match="nothing was written"):
        put_one(store, payload=b"x" * 200_000)
    assert dump(store)["rows"].keys() == {small}
    held = claim(store)
    settle(store, held, Ack())
    with through(store._connections.gate):
        store._connections.writer().execute("PRAGMA max_page_count = 1000000")
    assert status(store, put_one(store, payload=b"x" * 200_000)) == "pending"


def test_a_full_disk_refuses_one_of_a_batch_and_writes_the_others(store: EmbeddedStore, faults: Faults) -> None:
    put_one(store)
    with through(store._connections.gate):
        writer = store._connections.writer()
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages + 5}")
    with one_batch(store, faults, 3):
        good = Caller(lambda: put_one(store))
        until(lambda: len(store._commits._line) == 1)
        big = Caller(lambda: put_one(store, payload=b"x" * 200_000))
        until(lambda: len(store._commits._line) == 2)
        other = Caller(lambda: put_one(store))
    with pytest.raises(StorageError):
        big.answer()
    assert status(store, good.answer()) == status(store, other.answer()) == "pending"


# What is raised in the thread that commits


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_what_is_raised_before_a_commit_is_told_to_whom_it_concerns_and_the_others_are_served(
    store: EmbeddedStore, faults: Faults, kind: type[BaseException]
) -> None:
    put_one(store, "another queue")
    leading, go = threading.Event(), threading.Event()

    def hold_and_raise() -> None:
        leading.set()
        assert go.wait(LIMIT)
        raise kind

    faults.at["before-commit"] = hold_and_raise
    first = Caller(lambda: put_one(store, payload=b"the first's"))
    assert leading.wait(LIMIT)
    others = [Caller(lambda: put_one(store)) for _ in range(4)]
    until(lambda: len(store._commits._line) == 4)
    go.set()
    with pytest.raises(kind):
        first.answer()
    assert all(status(store, other.answer()) == "pending" for other in others)
    assert store.counts()[QUEUE].pending == 4, "what the first asked for was not written"


@pytest.mark.parametrize("point", ["before-commit", "after-commit"])
def test_what_is_raised_around_a_shared_commit_takes_nobodys_write_along(
    store: EmbeddedStore, faults: Faults, point: str
) -> None:
    put_one(store, "another queue")
    with one_batch(store, faults, 5):
        callers = [Caller(lambda: put_one(store)) for _ in range(5)]
        until(lambda: len(store._commits._line) == 5)
        if point == "after-commit":
            faults.at["after-commit"] = lambda: faults.at.__setitem__("after-commit", interrupt)
        else:
            faults.at["before-commit"] = interrupt
    assert all(status(store, caller.answer()) == "pending" for caller in callers)
    assert store.counts()[QUEUE].pending == 5
    assert not store._connections.writer().in_transaction


def test_the_store_works_on_after_that(store: EmbeddedStore, faults: Faults) -> None:
    put_one(store, "another queue")
    faults.at["before-commit"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        put_one(store)
    assert store.counts().keys() == {"another queue"}
    assert status(store, put_one(store)) == "pending"


def test_a_fault_of_ours_at_the_commit_is_raised_and_leaves_no_transaction_open(
    store: EmbeddedStore, faults: Faults
) -> None:
    def fail() -> None:
        raise RuntimeError("ours")

    put_one(store, "another queue")
    faults.at["before-commit"] = fail
    with pytest.raises(RuntimeError, match="ours"):
        put_one(store)
    assert not store._connections.writer().in_transaction
    assert status(store, put_one(store)) == "pending"


# Re-entry


def test_a_call_from_inside_the_transaction_of_its_thread_raises(store: EmbeddedStore, faults: Faults) -> None:
    seen: list[str] = []

    def call_again() -> None:
        with pytest.raises(RuntimeError, match="inside its own transaction"):
            put_one(store)
        seen.append("raised")

    faults.at["before-commit"] = call_again
    job_id = put_one(store)
    assert seen == ["raised"]
    assert status(store, job_id) == "pending"
    assert store.counts()[QUEUE].pending == 1


def test_another_threads_call_meanwhile_only_waits(store: EmbeddedStore, faults: Faults) -> None:
    others: list[Caller] = []
    faults.at["before-commit"] = lambda: others.append(Caller(lambda: put_one(store)))
    put_one(store)
    assert status(store, others[0].answer()) == "pending"
