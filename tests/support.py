"""What all tests share: patience for what must come about, threads that are joined, and none of them left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")

#: Far more than anything promised, so that only a hang reaches it.
PATIENCE = 30.0


def wait_until(condition: Callable[[], object], what: str = "the condition", limit: float = PATIENCE) -> None:
    """Return once ``condition`` holds; fail after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about in {limit} s"
        pause.wait(0.002)


def await_event(event: threading.Event, what: str = "the event") -> None:
    assert event.wait(PATIENCE), f"{what} did not happen in {PATIENCE} s"


@contextmanager
def no_thread_left_behind() -> Iterator[None]:
    """Fail if the block leaves a thread running that was not there before."""
    before = set(threading.enumerate())
    yield
    for thread in _new_threads(before):
        thread.join(PATIENCE)
    left = [thread.name for thread in _new_threads(before)]
    assert not left, f"threads left behind: {left}"


def _new_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    # A thread that Python did not start (the clerk, for a second after a write) has a stand-in once it has logged,
    # which Python never takes away.
    return {each for each in set(threading.enumerate()) - before if not isinstance(each, threading._DummyThread)}


def in_thread(call: Callable[[], _T]) -> Callable[[], _T]:
    """Start ``call`` on a thread; the function returned joins it and gives its value or raises its error."""
    result: list[_T] = []
    error: list[BaseException] = []

    def body() -> None:
        try:
            result.append(call())
        except BaseException as caught:
            error.append(caught)

    thread = threading.Thread(target=body, name="test-helper")
    thread.start()

    def join() -> _T:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the helper thread hangs"
        if error:
            raise error[0]
        return result[0]

    return join
