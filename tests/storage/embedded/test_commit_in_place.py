"""Threads that commit where they are: a step's small write is made by the thread that waits for it, and others' too."""

from __future__ import annotations

import threading

import pytest

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.memo import MemoScope
from taquba_workflow_sync.storage.relational import group_commit
from tests.storage.bench import claim, put_one, put_run, status

from .callers import LIMIT, Caller, Faults, begins, until
from .conftest import OpenEmbedded

FOR_EVER = 1_000.0


@pytest.fixture
def store(open_embedded: OpenEmbedded, faults: Faults) -> EmbeddedStore:
    return open_embedded(failpoint=faults)


@pytest.fixture
def held(store: EmbeddedStore) -> ClaimedRow:
    put_run(store)
    row = claim(store)
    until(lambda: store._commits.clerk.keep_away("the test", 0.0))
    store._commits.clerk.let_back("the test")
    return row


@pytest.fixture
def _nobody_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a caller that nobody wakes wait for ever."""
    monkeypatch.setattr(group_commit, "_FIRST_SLEEP", FOR_EVER)
    monkeypatch.setattr(group_commit, "_LONGEST_SLEEP", FOR_EVER)


def put(store: EmbeddedStore, held: ClaimedRow, key: str, value: bytes = b"value") -> bytes:
    return store.memo_put(held.id, held.token, MemoScope.STEP, key, value)


def keys(store: EmbeddedStore, held: ClaimedRow) -> list[str]:
    return store.memo_keys(held.id, MemoScope.STEP, held.step)


def is_helped(store: EmbeddedStore) -> bool:
    """Whether the clerk is there."""
    return store._commits.clerk._lives.locked()


def test_a_thread_commits_its_own_write_and_nobody_is_woken(
    store: EmbeddedStore, held: ClaimedRow, _nobody_helps: None
) -> None:
    assert Caller(lambda: put(store, held, "key")).answer() == b"value"
    assert keys(store, held) == ["key"]
    assert not is_helped(store)


def test_the_main_thread_never_commits(store: EmbeddedStore, held: ClaimedRow) -> None:
    """A signal handler may raise anything in it, and others' writes would be in the same transaction."""
    threads: set[int] = set()
    put(store, held, "before")
    store._connections.writer().set_trace_callback(lambda _: threads.add(threading.get_ident()))
    assert put(store, held, "key") == b"value"
    assert threads and threading.get_ident() not in threads


def hold_up(store: EmbeddedStore, faults: Faults, held: ClaimedRow) -> tuple[Caller, threading.Event]:
    """A thread in the middle of a commit of its own, and what lets it go on."""
    inside, go = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        assert go.wait(LIMIT)

    faults.at["before-commit"] = hold
    first = Caller(lambda: put(store, held, "first"))
    assert inside.wait(LIMIT)
    return first, go


def test_who_comes_meanwhile_is_committed_together_by_the_next_of_them(
    store: EmbeddedStore, held: ClaimedRow, faults: Faults, _nobody_helps: None
) -> None:
    seen = begins(store)
    first, go = hold_up(store, faults, held)
    others = [Caller(lambda key=key: put(store, held, key)) for key in ("a", "b", "c")]  # type: ignore[misc]
    until(lambda: len(store._commits._line) == 3)
    go.set()
    assert [caller.answer() for caller in (first, *others)] == [b"value"] * 4
    assert seen.count("COMMIT") == 2
    assert sorted(keys(store, held)) == ["a", "b", "c", "first"]
    assert not is_helped(store)


def test_who_cannot_commit_is_committed_along(store: EmbeddedStore, held: ClaimedRow, faults: Faults) -> None:
    first, go = hold_up(store, faults, held)
    submit = Caller(lambda: put_one(store))
    other = Caller(lambda: put(store, held, "other"))
    until(lambda: len(store._commits._line) == 2)
    go.set()
    assert (first.answer(), other.answer()) == (b"value", b"value")
    assert status(store, submit.answer()) == "pending"


def test_a_dispatcher_leads_beside_them(store: EmbeddedStore, held: ClaimedRow, faults: Faults) -> None:
    with store.lead(lambda: None) as leader:
        assert leader is not None
        callers = [Caller(lambda n=n: put(store, held, str(n))) for n in range(20)]  # type: ignore[misc]
        for _ in range(20):
            leader.flush()
        assert [caller.answer() for caller in callers] == [b"value"] * 20
    assert len(keys(store, held)) == 20


def test_one_that_waits_for_company_that_does_not_come_goes_on(
    store: EmbeddedStore, held: ClaimedRow, faults: Faults, _nobody_helps: None
) -> None:
    first, go = hold_up(store, faults, held)
    others = [Caller(lambda key=key: put(store, held, key)) for key in ("a", "b", "c")]  # type: ignore[misc]
    until(lambda: len(store._commits._line) == 3)
    go.set()
    for caller in (first, *others):
        caller.answer()
    assert store._commits._company == 3
    for key in ("d", "e"):
        assert Caller(lambda key=key: put(store, held, key)).answer() == b"value"  # type: ignore[misc]
    assert store._commits._company == 1, "and does not wait a second time"


def test_one_that_waits_for_company_goes_on_when_all_have_come(
    store: EmbeddedStore, held: ClaimedRow, faults: Faults, monkeypatch: pytest.MonkeyPatch, _nobody_helps: None
) -> None:
    monkeypatch.setattr(group_commit, "_COMPANY_COMES", FOR_EVER)
    store._commits._company = 2
    one = Caller(lambda: put(store, held, "one"))
    until(lambda: store._commits._gatherer is not None)
    two = Caller(lambda: put(store, held, "two"))
    assert (one.answer(), two.answer()) == (b"value", b"value")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_what_is_raised_in_one_that_commits_for_others_leaves_nobody_waiting(
    store: EmbeddedStore, held: ClaimedRow, faults: Faults, kind: type[BaseException]
) -> None:
    """Only an exception injected into a thread can be that; the others learn that nothing was written."""
    first, go = hold_up(store, faults, held)
    others = [Caller(lambda key=key: put(store, held, key)) for key in ("a", "b", "c")]  # type: ignore[misc]
    until(lambda: len(store._commits._line) == 3)

    def fail() -> None:
        raise kind

    faults.at["after-commit"] = lambda: faults.at.__setitem__("before-commit", fail)
    go.set()
    first.answer()
    ends = []
    for caller in others:
        try:
            ends.append(caller.answer())
        except BaseException as error:
            ends.append(type(error))
    assert ends.count(b"value") + ends.count(StorageError) + ends.count(kind) == 3
    assert not store._connections.writer().in_transaction
    assert put(store, held, "later") == b"value"


def test_many_threads_have_each_their_own_answer(store: EmbeddedStore, held: ClaimedRow, faults: Faults) -> None:
    seen = begins(store)
    answers: dict[str, bytes] = {}

    def work(name: int) -> None:
        for number in range(25):
            key = f"{name}-{number}"
            answers[key] = put(store, held, key, key.encode())

    for caller in [Caller(lambda name=name: work(name)) for name in range(8)]:  # type: ignore[misc]
        caller.answer()
    assert answers == {key: key.encode() for key in keys(store, held)} and len(answers) == 200
    assert seen.count("COMMIT") <= 200


def test_a_call_from_inside_a_transaction_of_its_thread_is_refused(
    store: EmbeddedStore, held: ClaimedRow, faults: Faults
) -> None:
    seen: list[str] = []

    def call_again() -> None:
        with pytest.raises(RuntimeError, match="inside its own transaction"):
            put(store, held, "inner")
        seen.append("raised")

    faults.at["before-commit"] = call_again
    assert Caller(lambda: put(store, held, "outer")).answer() == b"value"
    assert seen == ["raised"]
