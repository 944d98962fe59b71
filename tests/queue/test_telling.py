"""The lines about runs: said in order by a thread of their own, which no turn and no stop waits for without an end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from taquba_workflow_sync import Continue, Queue, RunState, Step, StepOutcome, Succeed, WorkflowRuntime
from taquba_workflow_sync.queue.dispatch import telling
from taquba_workflow_sync.queue.dispatch.telling import Teller
from tests.support import PATIENCE, await_event, in_thread, wait_until


class _Bare(logging.Handler):
    """A handler of the user's own, with no lock of logging's around it."""

    def __init__(self, emit: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._emit = emit

    def handle(self, record: logging.LogRecord) -> bool:
        self._emit(record)
        return True


@contextmanager
def handled_by(emit: Callable[[logging.LogRecord], None]) -> Iterator[None]:
    """Have a handler of the user's own get the library's lines."""
    handler = _Bare(emit)
    logger = logging.getLogger("taquba_workflow_sync")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def test_no_step_waits_for_a_handler_that_hangs() -> None:
    told, go = threading.Event(), threading.Event()

    def emit(record: logging.LogRecord) -> None:
        if "succeeded" in record.getMessage():
            told.set()
            go.wait(PATIENCE)

    def run_step(step: Step) -> StepOutcome:
        return Continue() if step.step_number < 3 else Succeed()

    with handled_by(emit), Queue.temporary(durability="relaxed") as queue:
        with WorkflowRuntime(queue, run_step) as runtime:
            runtime.submit(run_id="first")
            await_event(told)
            for number in range(20):
                runtime.submit(run_id=f"r{number}")
            wait_until(lambda: runtime.count_runs()[RunState.SUCCEEDED] == 21)
            go.set()


def test_a_handler_that_raises_keeps_no_run_from_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    def emit(record: logging.LogRecord) -> None:
        if record.getMessage().startswith("run "):
            raise ConnectionError("the log server is away")

    with handled_by(emit), Queue.temporary(durability="relaxed") as queue:
        runtime = WorkflowRuntime(queue, lambda step: Succeed(b"done"))
        handle = runtime.submit(run_id="r")
        runtime.run_until_idle(PATIENCE)
        assert handle.result(0) == b"done"
    assert "the log server is away" in capsys.readouterr().err


def test_lines_are_said_in_order_and_before_the_end() -> None:
    said: list[int] = []
    teller = Teller("told")
    for number in range(50):
        teller.add(lambda number=number: said.append(number))  # type: ignore[misc]
        teller.tell()
    teller.close(PATIENCE)
    assert said == list(range(50))
    assert "told" not in [thread.name for thread in threading.enumerate()]


def test_what_comes_faster_than_it_is_told_is_left_out_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(telling, "_MOST", 3)
    begun, go = threading.Event(), threading.Event()
    said: list[int] = []
    teller = Teller("told")

    def first() -> None:
        begun.set()
        go.wait(PATIENCE)

    teller.add(first)
    teller.tell()
    await_event(begun)
    for number in range(5):
        teller.add(lambda number=number: said.append(number))  # type: ignore[misc]
    go.set()
    teller.close(PATIENCE)
    assert said == [0, 1, 2]
    assert "2 lines about runs were left out" in caplog.text


def test_a_close_waits_for_a_line_for_so_long_and_no_longer() -> None:
    begun, go = threading.Event(), threading.Event()
    teller = Teller("told")

    def hang() -> None:
        begun.set()
        go.wait(PATIENCE)

    teller.add(hang)
    teller.tell()
    await_event(begun)
    teller.close(0.01)
    assert "told" in [thread.name for thread in threading.enumerate()]
    go.set()
    wait_until(lambda: "told" not in [thread.name for thread in threading.enumerate()])


def test_a_thread_that_begins_during_the_close_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()

    class SlowToBegin(threading.Thread):
        def start(self) -> None:
            super().start()
            if self.name == "told":
                begun.set()
                go.wait(PATIENCE)

    teller = Teller("told")
    teller.add(lambda: None)
    with monkeypatch.context() as patched:
        patched.setattr(threading, "Thread", SlowToBegin)
        tell = in_thread(teller.tell)
        await_event(begun)
    wait_until(lambda: not teller._lines)
    close = in_thread(lambda: teller.close(PATIENCE))
    time.sleep(0.05)  # a close that does not wait for it is over by now
    go.set()
    tell()
    close()
    assert "told" not in [thread.name for thread in threading.enumerate()]
