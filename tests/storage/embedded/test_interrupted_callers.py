"""What a signal handler raises inside a call belongs to that caller, unchanged, and strands and hits nobody else."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.store import Durability
from taquba_workflow_sync.storage.relational import clerk as clerk_module
from tests.interruptions import Interruption, Limit, assert_weathers, inject
from tests.storage.bench import QUEUE, claims, job, put_one, rows_of, status

from .callers import LIMIT, Caller, Faults, until
from .conftest import OpenEmbedded

_ENGINE = str(Path("taquba_workflow_sync", "storage"))


@pytest.fixture
def store(open_embedded: OpenEmbedded, faults: Faults) -> EmbeddedStore:
    one = open_embedded(failpoint=faults, durability=Durability.RELAXED)
    put_one(one, "another queue")
    return one


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the limit of threads, and at the interpreter's exit."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(clerk_module, "_thread", type("NoThreads", (), {"start_new_thread": staticmethod(refuse)}))


# A storm


def test_a_storm_of_interrupted_callers_strands_nobody(tmp_path: Path) -> None:
    """The main thread submits while a handler raises after 50 microseconds to 3 ms; three threads submit beside it."""
    assert_weathers("tests.storage.embedded.storm", tmp_path / "store")


# Exactly the interrupted caller, unchanged


@pytest.fixture
def raise_in_main() -> Iterator[Callable[[BaseException], None]]:
    """Raises an exception from a signal handler of the main thread, which runs the tests."""
    raising: list[BaseException] = []

    def handle(*_: object) -> None:
        raise raising.pop()

    before = signal.signal(signal.SIGUSR1, handle)

    def send(error: BaseException) -> None:
        raising.append(error)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    yield send
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("error", [Limit("too long"), Interruption(), KeyboardInterrupt(), ValueError("a limit, too")])
def test_what_a_handler_raises_inside_a_write_reaches_its_caller_alone_and_unchanged(
    store: EmbeddedStore, faults: Faults, raise_in_main: Callable[[BaseException], None], error: BaseException
) -> None:
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        assert go.wait(LIMIT)

    faults.at["before-commit"] = hold
    first = Caller(lambda: put_one(store))
    assert held.wait(LIMIT)
    others = [Caller(lambda: put_one(store)) for _ in range(3)]
    until(lambda: len(store._commits._line) == 3)

    def strike() -> None:
        until(lambda: len(store._commits._line) == 4)
        raise_in_main(error)

    striker = Caller(strike)
    with pytest.raises(type(error)) as caught:
        store.insert([job(id="given-up")])
    go.set()
    assert caught.value is error
    striker.answer()
    assert all(status(store, each.answer()) == "pending" for each in (first, *others))
    assert store.get("given-up") is None, "what had not begun need not happen"
    assert status(store, put_one(store)) == "pending"


def test_a_call_from_a_signal_handler_of_a_waiting_caller_is_answered(store: EmbeddedStore, faults: Faults) -> None:
    answers: list[str | None] = []

    def submit(*_: object) -> None:
        answers.append(put_one(store))

    def strike() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, submit)
    try:
        faults.at["before-commit"] = strike
        answers.append(put_one(store))
        until(lambda: len(answers) == 2)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [status(store, each or "") for each in answers] == ["pending", "pending"]


def test_a_claim_whose_caller_was_interrupted_is_given_back(
    store: EmbeddedStore, faults: Faults, raise_in_main: Callable[[BaseException], None]
) -> None:
    """It is in its transaction already: nobody will hear of the claim, and it would be held until its lease ends."""
    put_one(store)
    is_gone = threading.Event()
    before = faults.passed.count("after-commit")

    def strike() -> None:
        raise_in_main(Limit("too long"))
        assert is_gone.wait(LIMIT)

    faults.at["before-commit"] = strike
    with pytest.raises(Limit):
        claims(store, is_bare=True)
    is_gone.set()
    until(lambda: faults.passed.count("after-commit") == before + 2)  # the claim, and its release
    (again,) = claims(store)
    assert again.attempts == 1, "it never began, so it is not charged"


# At every step


def _submit_until(store: EmbeddedStore, is_over: threading.Event) -> list[str]:
    told = []
    while not is_over.wait(0.0005):
        told.append(put_one(store))
    return told


@pytest.mark.parametrize("commits_alone", [False, True], ids=["the clerk commits", "no thread can be started"])
def test_an_exception_at_any_step_of_a_submit_strands_nobody(
    store: EmbeddedStore, commits_alone: bool, request: pytest.FixtureRequest
) -> None:
    if commits_alone:
        store._commits.clerk.keep_away("test", LIMIT)
        store._commits.clerk.let_back("test")
        request.getfixturevalue("no_threads")
    is_over = threading.Event()
    others = [Caller(lambda: _submit_until(store, is_over)) for _ in range(2)]
    told: list[str] = []
    at, missed = 0, 0
    try:
        while missed < 3:
            at += 1
            steps, answer = inject(lambda: put_one(store), at, _ENGINE)
            missed = 0 if steps >= at else missed + 1
            if answer is not None:
                told.append(answer)
    finally:
        is_over.set()
    assert at > 100
    for other in others:
        told += other.answer()
    assert status(store, put_one(store)) == "pending", "the store works on"
    stored = [row.id for row in rows_of(store, QUEUE)]
    assert len(stored) == len(set(stored))
    assert set(told) <= set(stored)


# The last resort


def test_where_no_thread_can_be_started_callers_commit_for_themselves(store: EmbeddedStore, no_threads: None) -> None:
    store._commits.clerk.keep_away("test", LIMIT)
    store._commits.clerk.let_back("test")
    callers = [Caller(lambda: put_one(store)) for _ in range(8)]
    assert {status(store, caller.answer()) for caller in callers} == {"pending"}
    assert not store._commits.clerk._lives.locked()


@pytest.mark.parametrize("error", [Limit("too long"), Interruption(), ValueError("a limit, too")])
def test_what_a_handler_raises_in_a_transaction_of_ones_own_is_unchanged_and_leaves_none_open(
    store: EmbeddedStore,
    faults: Faults,
    no_threads: None,
    raise_in_main: Callable[[BaseException], None],
    error: BaseException,
) -> None:
    store._commits.clerk.keep_away("test", LIMIT)
    store._commits.clerk.let_back("test")
    faults.at["before-commit"] = lambda: raise_in_main(error)
    with pytest.raises(type(error)) as caught:
        put_one(store)
    assert caught.value is error
    assert QUEUE not in store.counts()
    assert status(store, put_one(store)) == "pending"


def test_the_instruments_start_threads_as_ever() -> None:
    assert clerk_module._thread is _thread
