"""Whoever waits is woken by what it waits for, and by nothing else; one of them looks for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from taquba_workflow_sync import Fail, Queue, Step, StepOutcome, Succeed, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.queue import claiming
from taquba_workflow_sync.queue import waiters as waiters_module
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.waiters import Source, Waiter, Waiters
from taquba_workflow_sync.storage.port.changes import Changes, CommitListener
from taquba_workflow_sync.storage.port.reads import NextWork, Ready
from taquba_workflow_sync.wakeup import WakeUp
from taquba_workflow_sync.workflow import waiting

from .support import PATIENCE, await_event, in_thread, wait_until

_FOR_EVER = 1e6


class Commits:
    """A store of which only the commits are known: what ended and what got work, here or elsewhere."""

    def __init__(self) -> None:
        self.version = 0
        self.listeners: list[CommitListener] = []
        self.gone: set[str] = set()
        self.ready: set[str] = set()
        self.asked: list[set[str]] = []
        self.sleeping: list[WakeUp] = []

    @contextmanager
    def on_commit(self, listener: CommitListener) -> Iterator[None]:
        self.listeners.append(listener)
        yield
        self.listeners.remove(listener)

    def wait_for_changes(self, since: object, timeout: float, wakeup: WakeUp) -> Changes:
        self.sleeping.append(wakeup)
        if since == self.version:
            wakeup.wait(timeout)
        self.sleeping.remove(wakeup)
        return Changes(self.version, self.version != since)

    def ended(self, job_ids: Collection[str]) -> set[str]:
        self.asked.append(set(job_ids))
        return self.gone & set(job_ids)

    def next_work(self, queue: str) -> NextWork:
        return Ready() if queue in self.ready else None

    def commit_here(self, woken: Collection[str] = (), ended: Collection[str] = ()) -> None:
        self.gone |= set(ended)
        for listener in self.listeners:
            listener(frozenset(woken), frozenset(ended))

    def commit_elsewhere(self, ended: Collection[str] = ()) -> None:
        self.gone |= set(ended)
        self.version += 1
        for wakeup in tuple(self.sleeping):
            wakeup.notify()


@pytest.fixture
def commits() -> Commits:
    return Commits()


@pytest.fixture
def waiters(commits: Commits, monkeypatch: pytest.MonkeyPatch) -> Waiters:
    monkeypatch.setattr(waiters_module, "_TRUST", _FOR_EVER)
    return Waiters(cast(Source, commits), lambda: False)


def waits_for(waiters: Waiters, job_id: str) -> Callable[[], bool]:
    """Begin to wait for an end on another thread; returns what joins it and tells whether it was woken."""
    began = threading.Event()

    def wait() -> bool:
        with waiters.end_of(job_id) as waiter:
            began.set()
            waiters.sleep(waiter, PATIENCE)
            return waiter.is_woken

    join = in_thread(wait)
    assert began.wait(PATIENCE)
    return join


def test_an_end_wakes_who_waits_for_it_and_nobody_else(waiters: Waiters, commits: Commits) -> None:
    first, second, other = (waits_for(waiters, name) for name in ("a", "a", "b"))
    commits.commit_here(ended=["a"])
    assert first() and second()
    assert len(waiters._present) == 1
    commits.commit_here(ended=["b"])
    assert other()
    assert not waiters.has_waiters


def test_an_end_elsewhere_is_found_by_one_look_for_all(waiters: Waiters, commits: Commits) -> None:
    joins = {name: waits_for(waiters, name) for name in ("a", "b", "c")}
    wait_until(lambda: commits.sleeping)
    commits.asked.clear()
    commits.commit_elsewhere(ended=["b", "c"])
    assert joins["b"]() and joins["c"]()
    commits.commit_here(ended=["a"])
    assert joins["a"]()
    assert commits.asked[0] == {"a", "b", "c"}


def test_what_is_looked_for_costs_a_small_share_of_the_time(
    waiters: Waiters, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(waiters_module, "time", type("Time", (), {"monotonic": staticmethod(lambda: now[0])}))

    def slow(job_ids: Collection[str]) -> set[str]:
        commits.asked.append(set(job_ids))
        now[0] += 0.01
        return set()

    monkeypatch.setattr(commits, "ended", slow)
    with waiters.end_of("a") as waiter:
        waiters._look(waiter, 0.0)
        assert len(commits.asked) == 1
        for _ in range(9):
            commits.version += 1
            now[0] += 0.01
            waiters._look(waiter, 0.0)
        assert len(commits.asked) == 1, "ten times as long as the look took"
        now[0] += 0.02
        waiters._look(waiter, 0.0)
        assert len(commits.asked) == 2, "what came meanwhile is looked into"
        now[0] += 1
        waiters._look(waiter, 0.0)
        assert len(commits.asked) == 2, "nothing came"


def test_a_looker_that_leaves_has_another_one_look(waiters: Waiters, commits: Commits) -> None:
    first = waits_for(waiters, "a")
    wait_until(lambda: commits.sleeping)
    second = waits_for(waiters, "b")
    commits.commit_here(ended=["a"])
    assert first()
    wait_until(lambda: commits.sleeping)
    commits.commit_elsewhere(ended=["b"])
    assert second()


def test_a_commit_wakes_one_claimer_and_who_leaves_the_next(waiters: Waiters, commits: Commits) -> None:
    with waiters.work_in("q") as third:
        with waiters.work_in("q") as second:
            with waiters.work_in("q") as first, waiters.work_in("other") as other:
                commits.commit_here(woken=["q"])
                # The oldest in line was woken, and nobody else.
                assert [each.is_woken for each in (third, second, first, other)] == [True, False, False, False]
                commits.commit_here(woken=["q"])
                assert [each.is_woken for each in (third, second, first)] == [True, True, False]
                second.is_woken = False
            assert second.is_woken, "whoever leaves wakes the next"


def test_a_waiter_is_not_lost_when_its_line_is_taken_out_as_it_comes(waiters: Waiters, commits: Commits) -> None:
    """The end is stored, whoever waited is told, and the run is retried: all before the new one stands in line."""

    class Table(dict[str, list[Waiter]]):
        is_first = True

        def setdefault(self, key: str, default: Any = None) -> Any:
            line = super().setdefault(key, default)
            if self.is_first:
                self.is_first = False
                commits.commit_here(ended=[key])
            return line

    waiters._ends = Table()
    with waiters.end_of("a") as waiter:
        assert not waiter.is_woken
        commits.commit_here(ended=["a"])
        assert waiter.is_woken


def test_an_interrupted_waiter_leaves_nothing_behind(waiters: Waiters, commits: Commits) -> None:
    with pytest.raises(KeyboardInterrupt), waiters.end_of("a"):
        raise KeyboardInterrupt
    assert not waiters.has_waiters
    assert waiters._ends == {"a": []}
    join = waits_for(waiters, "b")
    wait_until(lambda: commits.sleeping)
    commits.commit_elsewhere(ended=["a", "b"])
    assert join()
    assert waiters._ends == {}, "a line that nobody stands in goes with its run"


def test_a_waiter_that_leaves_as_its_line_is_woken_has_nobody_passed_over(waiters: Waiters, commits: Commits) -> None:
    class Leaving(Waiter):
        def wake(self) -> None:
            super().wake()
            line.remove(self)

    with waiters.end_of("a") as last:
        line = waiters._ends["a"]
        line.insert(0, Leaving(0))
        commits.commit_here(ended=["a"])
        assert last.is_woken


def test_a_looker_that_was_interrupted_and_looks_no_more_is_replaced(
    waiters: Waiters, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiters_module, "_TRUST", 0.01)
    gone = Waiter(0)
    waiters._present[gone] = None
    waiters._looker = gone
    join = waits_for(waiters, "a")
    commits.commit_elsewhere(ended=["a"])
    assert join()


def test_a_close_wakes_everybody(waiters: Waiters, commits: Commits) -> None:
    joins = [waits_for(waiters, name) for name in ("a", "b")]
    wait_until(lambda: commits.sleeping)
    waiters.wake()
    assert [join() for join in joins] == [False, False]


# -- as they are used --------------------------------------------------------------------------------------------------


@pytest.fixture
def nobody_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_LONGEST_WAIT", _FOR_EVER)
    monkeypatch.setattr(waiters_module, "_TRUST", _FOR_EVER)
    monkeypatch.setattr(claiming, "_LOOK_INTERVAL", _FOR_EVER)


def test_a_run_that_is_waited_for_is_read_twice_however_many_others_end(
    queue: Queue, nobody_looks_again: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    original = QueueHandle.get

    def get(self: QueueHandle, job_id: str, **options: Any) -> Any:
        reads.append(job_id)
        return original(self, job_id, **options)

    monkeypatch.setattr(QueueHandle, "get", get)
    client = WorkflowClient(queue)
    handles = [client.submit() for _ in range(30)]
    joins = [in_thread(lambda handle=handle: handle.wait(_FOR_EVER)) for handle in handles]  # type: ignore[misc]
    wait_until(lambda: len(reads) == 30)
    with WorkflowRuntime(queue, lambda step: Succeed(b"done"), max_concurrent_steps=2):
        assert [join().result for join in joins] == [b"done"] * 30
    assert sorted(reads) == sorted([handle.first_job_id for handle in handles] * 2)


def test_a_run_that_is_retried_before_its_waiter_looks_is_waited_for_on(
    queue: Queue, nobody_looks_again: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever told of the first end has struck the waiter off."""
    goes_on = threading.Event()
    retried: list[str] = []
    original_get, original_sleep = QueueHandle.get, Waiters.sleep

    def step(each: Step) -> StepOutcome:
        if not retried:
            return Fail("no")
        await_event(goes_on, "the waiter's second sleep")
        return Succeed(b"done")

    def get(self: QueueHandle, job_id: str, **options: Any) -> Any:
        row = original_get(self, job_id, **options)
        if row is None or row.finished_ms is None or retried:
            return row
        retried.append(job_id)
        client.retry("r")
        return original_get(self, job_id, **options)

    def sleep(self: Waiters, waiter: Waiter, timeout: float) -> None:
        if retried:
            goes_on.set()
        original_sleep(self, waiter, timeout)

    client = WorkflowClient(queue)
    client.submit(run_id="r")
    monkeypatch.setattr(QueueHandle, "get", get)
    monkeypatch.setattr(Waiters, "sleep", sleep)
    join = in_thread(lambda: client.wait("r", _FOR_EVER))
    wait_until(lambda: queue.handle.waiters.has_waiters)
    with WorkflowRuntime(queue, step):
        assert join().result == b"done"
    assert retried


def test_claimers_that_wait_do_not_all_try_for_one_job(
    queue: Queue, nobody_looks_again: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []
    original = claiming.claim_batch

    def claim_batch(*arguments: Any) -> Any:
        tries.append(1)
        return original(*arguments)

    monkeypatch.setattr(claiming, "claim_batch", claim_batch)
    joins = [in_thread(lambda: queue.claim_with_wait("q", _FOR_EVER)) for _ in range(12)]
    wait_until(lambda: len(queue.handle.waiters._present) == 12 and len(tries) >= 12)
    tries.clear()
    for _ in range(12):
        queue.enqueue("q", b"")
    claims = [join() for join in joins]
    assert len({claim.job.id for claim in claims if claim is not None}) == 12
    assert len(tries) <= 4 * 12
