"""Whose turn it is: threads that run steps settle and claim for each other, and nothing that ends is left lying."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from taquba_workflow_sync import Continue, Queue, RunSpec, RunState, Step, StepOutcome, Succeed, WorkflowRuntime
from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.queue.config import QueueConfig
from taquba_workflow_sync.queue.dispatch import dispatcher as dispatcher_module
from taquba_workflow_sync.queue.dispatch.idle import Idle
from taquba_workflow_sync.queue.dispatch.maintenance import Maintenance
from taquba_workflow_sync.queue.dispatch.pool import Pool
from taquba_workflow_sync.queue.dispatch.settling import Settler
from taquba_workflow_sync.storage.port.settlement import Settlement
from tests.support import PATIENCE, await_event, wait_until
from tests.workflow.support import state

_FOR_EVER = 1e6


def ten_steps(step: Step) -> StepOutcome:
    return Continue() if step.step_number < 9 else Succeed(b"done")


def nothing_else_wakes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dispatcher has no house to keep and no thread to try again, and no lease is renewed or runs out."""
    monkeypatch.setattr(Maintenance, "next_due", _FOR_EVER)
    monkeypatch.setattr(Pool, "try_again", lambda self: None)
    monkeypatch.setattr(QueueConfig, "lease_ms", 3_600_000)


def is_of_pool(thread: threading.Thread) -> bool:
    return thread.name.startswith("taquba-step")


@pytest.fixture
def turns(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> list[tuple[threading.Thread, int]]:
    """Each turn that the store sees: on which thread, and how many claims it ends."""
    seen: list[tuple[threading.Thread, int]] = []
    kind = type(queue.handle.store)
    original = kind.settle_and_claim

    def settle_and_claim(store: Any, settlements: Sequence[Settlement], claims: Any, *counting: Any) -> Any:
        seen.append((threading.current_thread(), len(settlements)))
        return original(store, settlements, claims, *counting)

    monkeypatch.setattr(kind, "settle_and_claim", settle_and_claim)
    return seen


@pytest.mark.parametrize("threads", [1, 4])
def test_the_threads_that_run_steps_settle_them(
    queue: Queue, turns: list[tuple[threading.Thread, int]], threads: int
) -> None:
    runtime = WorkflowRuntime(queue, ten_steps, max_concurrent_steps=threads)
    handles = runtime.submit_many([RunSpec() for _ in range(20)])
    runtime.run_until_idle(PATIENCE)
    assert [handle.result(PATIENCE) for handle in handles] == [b"done"] * 20
    assert sum(ended for _, ended in turns) == 200
    assert sum(ended for thread, ended in turns if is_of_pool(thread)) > 100


def test_one_turn_is_led_at_a_time(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    under_way: list[int] = []
    most: list[int] = []
    original = Settler.settle_and_claim

    def settle_and_claim(self: Settler, flush: Callable[[], None]) -> bool:
        under_way.append(1)
        most.append(len(under_way))
        try:
            return original(self, flush)
        finally:
            under_way.pop()

    monkeypatch.setattr(Settler, "settle_and_claim", settle_and_claim)
    runtime = WorkflowRuntime(queue, ten_steps, max_concurrent_steps=8)
    runtime.submit_many([RunSpec() for _ in range(40)])
    runtime.run_until_idle(PATIENCE)
    assert max(most) == 1


def test_what_ends_while_the_dispatcher_leads_is_settled_at_once(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step's thread leaves it to who leads: not to the next tick, which never comes here, nor to the last thread
    that leaves, since another one is inside a step.
    """
    nothing_else_wakes_it(monkeypatch)
    go, led, over = threading.Event(), threading.Event(), threading.Event()
    original = Settler.settle_and_claim

    def settle_and_claim(self: Settler, flush: Callable[[], None]) -> bool:
        done = original(self, flush)
        runs = {execution.row.run_id for execution in self._state.in_flight.values()}
        if not done and not is_of_pool(threading.current_thread()) and "short" in runs and not led.is_set():
            # An empty turn of the dispatcher, in the middle of which the step ends.
            led.set()
            self._state.wakeup.wait(0.0)  # what the submit has left
            go.set()
            wait_until(lambda: self._state.finished, "the step's end")
            wait_until(lambda: self._state.pools[0]._active == 1, "its thread's leaving")
        return done

    monkeypatch.setattr(Settler, "settle_and_claim", settle_and_claim)

    def step(each: Step) -> StepOutcome:
        if each.run_id == "long":
            over.wait()
        else:
            await_event(go, "the dispatcher's turn")
        return Succeed(b"done")

    with WorkflowRuntime(queue, step, max_concurrent_steps=2) as runtime:
        runtime.submit(run_id="long")
        try:
            runtime.submit(run_id="short")
            # Looked at from outside: who waits for a run wakes the dispatcher.
            wait_until(lambda: state(runtime, "short") is RunState.SUCCEEDED, "the run's end")
        finally:
            over.set()
    assert led.is_set()


def test_a_thread_whose_turn_brought_nothing_looks_for_what_came_meanwhile() -> None:
    """Whoever came during that turn has left it to its leader."""
    pool = Pool("turns", [], 2)
    turns: list[int] = []
    told = threading.Event()

    def lead() -> bool:
        turns.append(1)
        return len(turns) == 2

    pool.serve(lambda execution, settlement: None, lead, lambda: len(turns) < 2, told.set)
    try:
        pool.give([])
        await_event(told, "the thread's leaving")
    finally:
        pool.shut_down()
    assert len(turns) == 3, "the first brought nothing, the second something, and after the third nothing is wanted"


@pytest.mark.parametrize("error", [StorageError("no"), ValueError("a fault of ours"), KeyboardInterrupt()])
def test_a_turn_of_a_pools_thread_that_fails_is_seen_to_by_the_dispatcher(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """And by nobody else: the thread itself leaves, though what it put back waits."""
    monkeypatch.setattr(dispatcher_module, "_BACKOFF", 0.001)
    failed: list[threading.Thread] = []
    leaders: list[threading.Thread] = []
    kind = type(queue.handle.store)
    original = kind.settle_and_claim

    def settle_and_claim(store: Any, settlements: Sequence[Settlement], claims: Any, *counting: Any) -> Any:
        if failed:
            leaders.append(threading.current_thread())
        if is_of_pool(threading.current_thread()) and settlements and not failed:
            failed.append(threading.current_thread())
            raise error
        return original(store, settlements, claims, *counting)

    monkeypatch.setattr(kind, "settle_and_claim", settle_and_claim)
    original_wait = Idle.wait

    def wait(self: Idle, until: float) -> None:
        original_wait(self, until)
        if failed and not leaders:
            wait_until(lambda: self._state.pools[0]._active == 0, "the thread's leaving")

    monkeypatch.setattr(Idle, "wait", wait)
    seen: list[int] = []

    def step(each: Step) -> StepOutcome:
        seen.append(each.step_number)
        return ten_steps(each)

    runtime = WorkflowRuntime(queue, step, max_concurrent_steps=1)
    handle = runtime.submit()
    with caplog.at_level(logging.WARNING):
        runtime.run_until_idle(PATIENCE)
    assert failed
    assert not is_of_pool(leaders[0])
    assert handle.result(PATIENCE) == b"done"
    assert seen == list(range(10))
    assert len([each for each in caplog.records if "failed (1 in a row), it goes on" in each.message]) == 1


def test_a_slot_that_becomes_free_has_the_dispatcher_look_at_what_others_commit(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While every thread was busy it had no eye on them; another handle's commit is seen once one is free, though the
    other one stays inside its step and no tick comes.
    """
    nothing_else_wakes_it(monkeypatch)
    go, over = threading.Event(), threading.Event()

    def step(each: Step) -> StepOutcome:
        if each.run_id == "short":
            await_event(go, "the test")
        if each.run_id == "long":
            over.wait()
        return Succeed()

    with (
        WorkflowRuntime(queue, step, max_concurrent_steps=2) as runtime,
        Queue.open(queue.path, durability="relaxed") as elsewhere,
    ):
        short, _ = runtime.submit_many([RunSpec(run_id="short"), RunSpec(run_id="long")])
        assert runtime._dispatcher is not None
        dispatching = runtime._dispatcher._state
        try:
            wait_until(lambda: dispatching.sees_nothing, "the dispatcher's sleep")
            go.set()
            assert short.wait(PATIENCE).result == b""
            # The end of the short step is the last that this process has committed.
            other = WorkflowRuntime(elsewhere, step).submit()
            assert runtime.wait(other.run_id, PATIENCE).result == b""
        finally:
            over.set()
