"""Callers share a transaction and an fsync; what befalls one of them befalls no other."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync.errors import ClaimLostError, DuplicateJobIdError, StorageError
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.settlement import Ack, Advance
from taquba_workflow_sync.testing import ManualClock
from tests.storage.bench import QUEUE, claim, claims, dump, ending, job, put, put_one, put_run, run, settle, status
from tests.storage.embedded.raw import through

from .conftest import OpenEmbedded
from .raw import raw

LIMIT = 30.0


class Faults:
    """Fault points of a store: a test puts what should happen there."""

    def __init__(self) -> None:
        self.at: dict[str, Callable[[], None]] = {}
        self.passed: list[str] = []

    def __call__(self, point: str) -> None:
        point = point.rpartition(":")[2]  # which transitions they are does not matter here
        self.passed.append(point)
        action = self.at.pop(point, None)
        if action is not None:
            action()


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def store(open_embedded: OpenEmbedded, faults: Faults) -> EmbeddedStore:
    return open_embedded(failpoint=faults)


class Caller(threading.Thread):
    """One caller of the store, and what it was answered."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)  # one that is never answered must fail a test, not hold up the exit
        self._call = call
        self.value: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.value = self._call()
        except BaseException as error:
            self.error = error

    def answer(self) -> Any:
        self.join(LIMIT)
        assert not self.is_alive(), "the caller was never answered"
        if self.error is not None:
            raise self.error
        return self.value


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that a thread is on its way to, with a generous limit."""
    pause = threading.Event()
    for _ in range(int(LIMIT * 1000)):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("it never came to that")


@contextmanager
def one_batch(store: EmbeddedStore, faults: Faults, count: int) -> Iterator[None]:
    """Calls that start inside of the block, ``count`` of them, go into one transaction."""
    go = threading.Event()
    held = threading.Event()

    def hold() -> None:
        held.set()
        assert go.wait(LIMIT)

    faults.at["before-commit"] = hold
    first = Caller(lambda: put_one(store, "another queue"))
    assert held.wait(LIMIT)
    try:
        yield
        until(lambda: len(store._committer._queue) >= count)
    finally:
        go.set()
        first.answer()


def begins(store: EmbeddedStore) -> list[str]:
    """Record every BEGIN, COMMIT and ROLLBACK of the writer from now on."""
    seen: list[str] = []
    words = ("BEGIN", "COMMIT", "ROLLBACK")
    with through(store._connections.gate):
        store._connections.writer().set_trace_callback(
            lambda text: seen.append(text) if text.startswith(words) else None
        )
    return seen


# -- sharing ----------------------------------------------------------------------------------------------------------


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


# -- one of them fails ------------------------------------------------------------------------------------------------


def test_a_refusal_reaches_its_caller_and_no_other(store: EmbeddedStore, faults: Faults) -> None:
    taken = put_one(store)
    stale = claim(store)
    settle(store, stale, Ack())
    taken = put_one(store, id=taken)
    with one_batch(store, faults, 4):
        good = [Caller(lambda: put_one(store)) for _ in range(2)]
        bad = Caller(lambda: store.insert([job(id=taken, id_is_generated=False)]))
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
        tx.execute("INSERT INTO taquba_queue (name) VALUES ('half done')")
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
        bad = Caller(lambda: store._write(_Breaks(error)))
        after = Caller(lambda: put_one(store))
    assert status(store, before.answer()) == status(store, after.answer()) == "pending"
    with pytest.raises((StorageError, type(error))):
        bad.answer()
    assert set(store.counts()) == {QUEUE, "another queue"}
    assert not store._connections.writer().in_transaction


def test_jobs_of_one_batch_stay_in_order_though_one_of_them_fails(store: EmbeddedStore, faults: Faults) -> None:
    with one_batch(store, faults, 1):
        bad = Caller(lambda: store._write(_Breaks(RuntimeError("ours"))))
    with pytest.raises((StorageError, RuntimeError)):
        bad.answer()
    ids = [put_one(store) for _ in range(3)]
    assert [row.id for row in claims(store)] == ids


# -- SQLite rolls back by itself --------------------------------------------------------------------------------------


@pytest.fixture
def poisoned(store: EmbeddedStore, root: Path) -> EmbeddedStore:
    """A store where inserting the payload 'poison' rolls the whole transaction back, as a full disk does."""
    put_one(store, "another queue")
    with raw(root) as connection:
        connection.execute(
            "CREATE TRIGGER poison BEFORE INSERT ON taquba_job WHEN NEW.payload = x'706F69736F6E'"
            " BEGIN SELECT RAISE(ROLLBACK, 'poisoned'); END"
        )
    return store


def test_when_sqlite_rolls_all_back_the_others_are_written_again(poisoned: EmbeddedStore, faults: Faults) -> None:
    with one_batch(poisoned, faults, 5):
        first = [Caller(lambda: put_one(poisoned)) for _ in range(2)]
        until(lambda: len(poisoned._committer._queue) == 2)
        bad = Caller(lambda: put_one(poisoned, payload=b"poison"))
        until(lambda: len(poisoned._committer._queue) == 3)
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
                "INSERT INTO taquba_job (id, queue, status, priority, place, max_attempts, enqueued_ms, payload)"
                " VALUES ('p', 1, 'pending', 1, 1, 1, 1, x'706F69736F6E')"
            )
        except sqlite3.Error:
            pass
        return "well"

    with one_batch(poisoned, faults, 3):
        first = Caller(lambda: put_one(poisoned))
        until(lambda: len(poisoned._committer._queue) == 1)
        liar = Caller(lambda: poisoned._write(swallow))
        until(lambda: len(poisoned._committer._queue) == 2)
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
        until(lambda: len(store._committer._queue) == 1)
        big = Caller(lambda: put_one(store, payload=b"x" * 200_000))
        until(lambda: len(store._committer._queue) == 2)
        other = Caller(lambda: put_one(store))
    with pytest.raises(StorageError):
        big.answer()
    assert status(store, good.answer()) == status(store, other.answer()) == "pending"


# -- the COMMIT fails -------------------------------------------------------------------------------------------------


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
    with store.listen(lambda woken, ended: heard.append(woken)):
        with one_batch(store, faults, 5):
            callers = [Caller(lambda: put_one(store)) for _ in range(5)]
            until(lambda: len(store._committer._queue) == 5)
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


# -- interruption -----------------------------------------------------------------------------------------------------


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_leader_interrupted_before_the_commit_leaves_its_followers_to_another(
    store: EmbeddedStore, faults: Faults, kind: type[BaseException]
) -> None:
    put_one(store, "another queue")
    leading, go = threading.Event(), threading.Event()

    def hold_and_interrupt() -> None:
        leading.set()
        assert go.wait(LIMIT)
        raise kind

    faults.at["before-commit"] = hold_and_interrupt
    leader = Caller(lambda: put_one(store, payload=b"the leader's"))
    assert leading.wait(LIMIT)
    followers = [Caller(lambda: put_one(store)) for _ in range(4)]
    until(lambda: len(store._committer._queue) == 4)
    go.set()
    with pytest.raises(kind):
        leader.answer()
    assert all(status(store, follower.answer()) == "pending" for follower in followers)
    assert store.counts()[QUEUE].pending == 4, "what the interrupted leader asked for was not written"


@pytest.mark.parametrize("point", ["before-commit", "after-commit"])
def test_a_leader_interrupted_with_followers_in_its_batch_answers_them(
    store: EmbeddedStore, faults: Faults, point: str
) -> None:
    put_one(store, "another queue")
    with one_batch(store, faults, 5):
        callers = [Caller(lambda: put_one(store)) for _ in range(5)]
        until(lambda: len(store._committer._queue) == 5)
        # The batch that follows is led by one of the five: whoever it is, is interrupted.
        if point == "after-commit":
            faults.at["after-commit"] = lambda: faults.at.__setitem__("after-commit", interrupt)
        else:
            faults.at["before-commit"] = interrupt
    outcomes = []
    for caller in callers:
        caller.join(LIMIT)
        assert not caller.is_alive(), "a follower was never answered"
        outcomes.append(caller.error)
    interrupted = [error for error in outcomes if isinstance(error, KeyboardInterrupt)]
    assert len(interrupted) == 1 and outcomes.count(None) == 4
    assert store.counts()[QUEUE].pending == (5 if point == "after-commit" else 4)
    assert not store._connections.writer().in_transaction


def test_the_store_works_on_in_the_thread_that_was_interrupted(store: EmbeddedStore, faults: Faults) -> None:
    faults.at["before-commit"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        put_one(store)
    assert store.counts() == {}
    assert status(store, put_one(store)) == "pending"


def test_a_fault_of_ours_at_the_commit_is_raised_and_leaves_no_transaction_open(
    store: EmbeddedStore, faults: Faults
) -> None:
    def fail() -> None:
        raise RuntimeError("ours")

    faults.at["before-commit"] = fail
    with pytest.raises(RuntimeError, match="ours"):
        put_one(store)
    assert not store._connections.writer().in_transaction
    assert status(store, put_one(store)) == "pending"


# -- re-entry ---------------------------------------------------------------------------------------------------------


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


# -- the clock --------------------------------------------------------------------------------------------------------


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


# -- another process --------------------------------------------------------------------------------------------------


def test_a_write_waits_for_the_lock_of_another_program(store: EmbeddedStore, root: Path) -> None:
    put_one(store)
    with raw(root) as connection:
        connection.execute("BEGIN IMMEDIATE")
        caller = Caller(lambda: put_one(store))
        until(lambda: store._committer._others_write)
        assert caller.is_alive()
        connection.execute("ROLLBACK")
        assert status(store, caller.answer()) == "pending"


def test_reads_go_on_while_another_program_holds_the_write_lock(store: EmbeddedStore, root: Path) -> None:
    job_id = put_one(store)
    with raw(root) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert status(store, job_id) == "pending"
        store.version()
        connection.execute("ROLLBACK")


def test_a_lock_held_for_too_long_is_a_transient_error_that_says_so(
    store: EmbeddedStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taquba_workflow_sync.storage.embedded import committer

    put_one(store)
    monkeypatch.setattr(committer, "_BEGIN_TIMEOUT", 0.05)
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
    store = EmbeddedStore(root, clock=clock)
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
    left = [connections._writer, connections._checkpointer, connections._watcher, *connections._idle_readers]
    for connection in left:
        if connection is not None:
            connection.close()
    assert [each for each in left if each is not None] == [], "a connection was opened after the close"
