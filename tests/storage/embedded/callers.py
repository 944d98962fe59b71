"""Callers of a store on threads of their own, failpoints to hold or fail its commits at, and a shared batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from tests.storage.bench import put_one

from .raw import through

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
        until(lambda: len(store._commits._line) >= count)
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
