"""The clerk's start and end: whoever puts something in line is served, whatever the moment."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

import pytest

from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.relational import clerk as clerk_module
from taquba_workflow_sync.storage.relational import group_commit
from taquba_workflow_sync.storage.relational.clerk import Clerk
from tests.storage.bench import put_one, status

from .callers import LIMIT, Caller, Faults, until
from .conftest import OpenEmbedded
from .raw import raw


class Line:
    """A line of bare locks that a clerk releases."""

    def __init__(self, idle_s: float) -> None:
        self.waiting: deque[threading.Lock] = deque()
        self.threads: set[int] = set()
        self.clerk = Clerk(self.serve, lambda: bool(self.waiting), idle_s)

    def serve(self) -> None:
        self.threads.add(threading.get_ident())
        self.waiting.popleft().release()

    def wait(self) -> None:
        """Put in line, wake, wait: without any second wake-up, so that what is lost shows."""
        mine = threading.Lock()
        mine.acquire()
        self.waiting.append(mine)
        assert self.clerk.wake()
        assert mine.acquire(timeout=LIMIT), "nobody served the line"

    @property
    def lives(self) -> bool:
        return self.clerk._lives.locked()


def test_a_clerk_that_always_ends_at_once_strands_nobody() -> None:
    line = Line(idle_s=0.0)
    callers = [Caller(lambda: [line.wait() for _ in range(1_500)]) for _ in range(3)]
    for caller in callers:
        caller.answer()
    until(lambda: not line.lives)
    assert not line.waiting


def test_there_is_one_clerk_at_a_time_and_many_callers_start_few(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    start = clerk_module._thread.start_new_thread

    def counting(*arguments: object) -> int:
        started.append(1)
        return start(*arguments)  # type: ignore[arg-type]  # passed on

    counted = type("Counting", (), {"start_new_thread": staticmethod(counting)})
    monkeypatch.setattr(clerk_module, "_thread", counted)
    line = Line(idle_s=30.0)
    for caller in [Caller(line.wait) for _ in range(100)]:
        caller.answer()
    assert len(line.threads) == 1
    assert len(started) < 20
    assert line.clerk.keep_away("test", LIMIT)


def test_an_idle_clerk_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(idle_s=0.05)
    line.wait()
    until(lambda: not line.lives)
    line.wait()
    assert len(line.threads) >= 1


def test_a_clerk_that_fails_is_followed_by_another(caplog: pytest.LogCaptureFixture) -> None:
    line = Line(idle_s=0.01)
    serve = line.serve
    failures = [MemoryError()]

    def fail_once() -> None:
        if failures:
            raise failures.pop()
        serve()

    line.clerk = Clerk(fail_once, lambda: bool(line.waiting), 0.01)
    line.wait()
    assert "another one takes over" in caplog.text


def test_nobody_starts_one_while_it_is_kept_away_and_what_came_meanwhile_is_served() -> None:
    line = Line(idle_s=0.01)
    line.wait()
    assert line.clerk.keep_away("a fork", LIMIT)
    caller = Caller(line.wait)
    until(lambda: bool(line.waiting))
    assert not line.lives
    line.clerk.let_back("a fork")
    caller.answer()


def test_it_is_kept_away_for_as_long_as_anybody_wants_it() -> None:
    line = Line(idle_s=0.01)
    for who in ("a fork", "a close"):
        assert line.clerk.keep_away(who, LIMIT)
    caller = Caller(line.wait)
    until(lambda: bool(line.waiting))
    line.clerk.let_back("a fork")
    assert not line.lives and line.waiting
    line.clerk.let_back("a close")
    caller.answer()


def test_a_started_clerk_that_never_arrives_is_not_relied_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(idle_s=0.01)
    lost = type("Lost", (), {"start_new_thread": staticmethod(lambda *_: 0)})
    with monkeypatch.context() as patched:
        patched.setattr(clerk_module, "_thread", lost)
        line.clerk.wake()
    mine = threading.Lock()
    mine.acquire()
    line.waiting.append(mine)
    line.clerk.wake()
    assert not mine.acquire(timeout=0.05)
    line.clerk.wake(is_late=True)
    assert mine.acquire(timeout=LIMIT)


# In a store


def test_opening_and_reading_start_no_thread(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    store.counts()
    assert not store._commits.clerk._lives.locked()


def test_a_close_leaves_no_clerk_behind(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    put_one(store)
    clerk = store._commits.clerk
    assert clerk._lives.locked()
    store.close()
    assert not clerk._lives.locked()


def test_callers_are_answered_although_the_leader_does_nothing(open_embedded: OpenEmbedded) -> None:
    """A leader that is busy elsewhere, or whose thread has died, costs a moment."""
    store = open_embedded()
    woken = threading.Event()
    with store.lead(woken.set) as leader:
        assert leader is not None
        job_id = Caller(lambda: put_one(store)).answer()
    assert woken.is_set()
    assert status(store, job_id) == "pending"


def test_one_thread_leads_at_a_time_and_commits_for_the_others(open_embedded: OpenEmbedded) -> None:
    faults = Faults()
    store = open_embedded(failpoint=faults)
    threads: list[int] = []
    woken = threading.Event()
    with store.lead(woken.set) as leader:
        assert leader is not None
        with store.lead(woken.set) as other:
            assert other is None
        faults.at["before-commit"] = lambda: threads.append(threading.get_ident())
        caller = Caller(lambda: put_one(store))
        assert woken.wait(LIMIT)
        leader.flush()
        assert status(store, caller.answer()) == "pending"
        assert threads == [threading.get_ident()]
        leader.flush()


def test_a_leader_commits_its_own_calls_itself(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    with store.lead(lambda: None):
        assert status(store, put_one(store)) == "pending"
        assert not store._commits.clerk._lives.locked()


def test_what_waits_when_a_leader_leaves_is_served(
    open_embedded: OpenEmbedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_embedded()
    # Whose caller does not wake anybody a second time, which would hide that nobody looks at the line.
    monkeypatch.setattr(group_commit, "_FIRST_SLEEP", 2 * LIMIT)
    with store.lead(lambda: None):
        caller = Caller(lambda: put_one(store))
        until(lambda: store._commits.has_waiting())
    assert status(store, caller.answer()) == "pending"


def test_a_fork_does_not_wait_for_the_lock_of_another_program(open_embedded: OpenEmbedded, root: Path) -> None:
    """The clerk that tries for it puts what it holds back in line, and is gone before the fork."""
    store = open_embedded()
    put_one(store)
    with raw(root) as connection:
        connection.execute("BEGIN IMMEDIATE")
        caller = Caller(lambda: put_one(store))
        until(lambda: store._commits._transactor.writer.others_write)
        store._lifecycle.before_fork()
        try:
            assert not store._commits.clerk._lives.locked()
            assert store._commits.has_waiting()
        finally:
            store._lifecycle.after_fork_in_parent()
        connection.execute("ROLLBACK")
    assert status(store, caller.answer()) == "pending"


# Where the interpreter ends, and forks

AT_EXIT = """
import atexit, sys, threading
from pathlib import Path
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.store import OpenOptions
store = EmbeddedStore(Path(sys.argv[1]), OpenOptions())

def late():
    store.insert([NewJob("late", "steps", b"x")])
    print("written at exit", flush=True)

atexit.register(late)
if "write" in sys.argv:
    store.insert([NewJob("early", "steps", b"x")])
    assert store._commits.clerk._lives.locked()
"""


@pytest.mark.parametrize("how", ["write", "nothing"])
def test_a_write_of_an_exit_handler_works_and_the_clerk_ends(root: Path, how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", AT_EXIT, str(root), how],
        capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[3], check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "written at exit\n", "")


FORK = """
import os, sys, warnings
from pathlib import Path
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.store import OpenOptions
store = EmbeddedStore(Path(sys.argv[1]), OpenOptions())
for number in range(20):
    store.insert([NewJob(f"parent-{number}", "steps", b"x")])
    child = os.fork()  # a warning of threads is an error here
    if child == 0:
        store.insert([NewJob(f"child-{number}", "steps", b"x")])
        store.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
store.insert([NewJob("last", "steps", b"x")])
print(store.counts()["steps"].pending, flush=True)
store.close()
"""


def test_the_clerk_is_gone_before_a_fork_and_parent_and_child_write_on(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK, str(root)],
        capture_output=True, text=True, timeout=100, cwd=Path(__file__).parents[3], check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "41", "")


@pytest.mark.filterwarnings(r"ignore:This process \(pid:DeprecationWarning")  # the callers are threads
def test_a_write_in_a_forked_child_of_a_busy_parent_is_stored_once(open_embedded: OpenEmbedded) -> None:
    store: EmbeddedStore = open_embedded()
    is_over = threading.Event()

    def submit() -> int:
        count = 0
        while not is_over.is_set():
            put_one(store)
            count += 1
        return count

    callers = [Caller(submit) for _ in range(3)]
    children = []
    try:
        for number in range(5):
            child = os.fork()
            if child == 0:
                try:
                    put_one(store, "of children", id=f"child-{number}")
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(child)
    finally:
        is_over.set()
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 5
    counted = sum(caller.answer() for caller in callers)
    counts = store.counts()
    assert counts["of children"].pending == 5
    assert counts["steps"].pending == counted
