"""Threads that cannot be started, for a limit or for memory, are not the end of the interpreter."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from taquba_workflow_sync import Queue, Step, StepOutcome, Succeed, WorkflowRuntime
from taquba_workflow_sync.queue.dispatch import pool as pool_module

from .support import PATIENCE, await_event, wait_until


@contextmanager
def no_new_threads(monkeypatch: pytest.MonkeyPatch, names: str, error: Exception) -> Iterator[None]:
    """Have threads whose names begin so fail to start, as they do at a limit."""
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith(names):
            raise error
        real(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        yield


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=["limit", "memory"])
def test_a_runtime_whose_threads_cannot_be_started_says_so_and_goes_on_when_they_can(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    with WorkflowRuntime(queue, lambda step: Succeed(b"done")) as runtime:
        with no_new_threads(monkeypatch, "taquba-step", error), caplog.at_level(logging.ERROR):
            handle = runtime.submit()
            wait_until(lambda: "no thread could be started" in caplog.text, "the complaint")
        assert handle.result(timeout=PATIENCE) == b"done"
        # Nothing was released, lost or tried twice on the way.
        assert queue.get_job(handle.first_job_id).attempts == 1  # type: ignore[union-attr]


def test_work_goes_on_with_the_threads_there_are(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave = threading.Event(), threading.Event()

    def step(step: Step) -> StepOutcome:
        if step.run_id == "first":
            entered.set()
            await_event(leave)
        return Succeed(threading.current_thread().name.encode())

    with WorkflowRuntime(queue, step, max_concurrent_steps=4) as runtime:
        first = runtime.submit(run_id="first")
        await_event(entered)
        with no_new_threads(monkeypatch, "taquba-step", RuntimeError("can't start new thread")):
            others = [runtime.submit(run_id=f"other-{number}") for number in range(20)]
            leave.set()
            threads = {handle.result(timeout=PATIENCE) for handle in (first, *others)}
        assert len(threads) == 1


def test_a_heartbeat_that_cannot_be_started_is_tried_again(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entered, leave = threading.Event(), threading.Event()

    def step(step: Step) -> StepOutcome:
        entered.set()
        await_event(leave)
        return Succeed()

    with WorkflowRuntime(queue, step) as runtime:
        with no_new_threads(monkeypatch, "taquba-heartbeat", RuntimeError("can't start new thread")):
            handle = runtime.submit()
            await_event(entered)
            wait_until(lambda: "heartbeat's thread could not be started" in caplog.text, "the complaint")
        wait_until(
            lambda: any(each.name.startswith("taquba-heartbeat") for each in threading.enumerate()), "the heartbeat"
        )
        leave.set()
        handle.result(timeout=PATIENCE)


def test_a_runtime_whose_dispatcher_cannot_be_started_can_be_started_later(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = WorkflowRuntime(queue, lambda step: Succeed(b"done"))
    with no_new_threads(monkeypatch, "taquba-", RuntimeError("can't start new thread")):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            runtime.start()
    with runtime:
        assert runtime.submit().result(timeout=PATIENCE) == b"done"


def test_a_run_whose_headers_cannot_be_read_for_want_of_memory_ends_and_the_others_go_on(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread would be lost else, and the run held for ever: its lease is renewed for as long as it is in flight."""
    original = pool_module.decode_headers
    failed: list[str] = []

    def decode_headers(text: str) -> Any:
        if not failed:
            failed.append(text)
            raise MemoryError
        return original(text)

    monkeypatch.setattr(pool_module, "decode_headers", decode_headers)
    with WorkflowRuntime(queue, lambda step: Succeed(b"done"), max_concurrent_steps=1) as runtime:
        first, second = runtime.submit(), runtime.submit()
        outcome = first.wait(PATIENCE)
        assert (outcome.status.value, outcome.error) == ("failed", "could not be run: MemoryError")
        assert second.wait(PATIENCE).result == b"done"


def test_a_thread_that_dies_of_a_fault_of_ours_leaves_its_place() -> None:
    pool = pool_module.Pool("faulty", [], 1)
    told = threading.Event()
    calls: list[int] = []

    def lead() -> bool:
        calls.append(1)
        if len(calls) == 1:
            raise AssertionError("a fault of ours")
        return False

    pool.serve(lambda execution, settlement: None, lead, lambda: len(calls) < 2, told.set)
    try:
        pool.give([])
        await_event(told, "its end")
        told.clear()
        pool.give([])
        await_event(told, "another thread's end")
    finally:
        pool.shut_down()
    assert len(calls) == 2


@pytest.mark.parametrize("comes_late", [False, True], ids=["never", "late"])
def test_a_thread_that_was_called_and_does_not_come_is_not_waited_for(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, comes_late: bool
) -> None:
    """As one that dies on its way: without another call the work that is ready would wait for it for ever."""
    monkeypatch.setattr(pool_module, "_CALL_PATIENCE", 0.05)
    late: list[Callable[[], object]] = []
    real = ThreadPoolExecutor.submit

    def submit(executor: ThreadPoolExecutor, work: Callable[..., object], *arguments: Any) -> Any:
        if not late and getattr(work, "__name__", "") == "_work":
            late.append(lambda: work(*arguments))
            return None
        return real(executor, work, *arguments)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    with WorkflowRuntime(queue, lambda step: Succeed(b"done"), max_concurrent_steps=1) as runtime:
        assert runtime.submit().result(PATIENCE) == b"done"
        assert late
        if comes_late:
            late[0]()
        assert runtime.submit().result(PATIENCE) == b"done"
        (pool,) = runtime._dispatcher._state.pools  # type: ignore[union-attr]
        wait_until(lambda: pool._active == 0, "the pool's rest")
