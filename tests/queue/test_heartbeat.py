"""The heartbeat through failures that do not end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.queue.dispatch.heartbeat import Heartbeat
from taquba_workflow_sync.queue.dispatch.lane import Execution, Lane
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.port.claim import ClaimedRow


class Failing:
    """A store that cannot be read, and counts how often it was asked."""

    def __init__(self, enough: int) -> None:
        self.asked = 0
        self._enough = enough
        self.was_asked_enough = threading.Event()

    def beat(self, patience: float) -> None:
        return None

    def wait_for_changes(self, since: object, timeout: float, wakeup: object) -> object:
        self.asked += 1
        if self.asked >= self._enough:
            self.was_asked_enough.set()
        raise StorageError("disk I/O error")


@pytest.fixture
def failing() -> Failing:
    return Failing(1_200)


@pytest.fixture
def heartbeat(failing: Failing, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heartbeat]:
    monkeypatch.setattr("taquba_workflow_sync.queue.dispatch.heartbeat._pause_after_failure", lambda running: 0.0)
    execution = cast(Any, SimpleNamespace(is_lost=True, lane=SimpleNamespace(lease_ms=1)))
    heartbeat = Heartbeat(cast(QueueHandle, SimpleNamespace(store=failing)), lambda: [execution], "heartbeat")
    yield heartbeat
    heartbeat.stop()


def test_a_heartbeat_outlives_more_failures_than_a_power_of_two_can_have(
    heartbeat: Heartbeat, failing: Failing
) -> None:
    heartbeat.wake()
    assert failing.was_asked_enough.wait(60)


class HalfBlind:
    """A store that cannot be looked at, and can be written to."""

    def __init__(self) -> None:
        self.was_renewed = threading.Event()

    def wait_for_changes(self, since: object, timeout: float, wakeup: object) -> object:
        raise StorageError("disk I/O error")

    def renew(self, tokens: list[str], lease_ms: int) -> tuple[int, frozenset[str]]:
        self.was_renewed.set()
        return 0, frozenset(tokens)


def test_a_look_that_fails_costs_no_lease() -> None:
    store = HalfBlind()
    row = cast(ClaimedRow, SimpleNamespace(token="t.1.1", cancel_requested=False))
    execution = Execution(row, cast(Lane, SimpleNamespace(lease_ms=30)), threading.Event())
    heartbeat = Heartbeat(cast(QueueHandle, SimpleNamespace(store=store)), lambda: [execution], "heartbeat")
    heartbeat.wake()
    try:
        assert store.was_renewed.wait(60)
    finally:
        heartbeat.stop()
