"""Claims of this handle that no thread works on are let go, but not those that are just being handed out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from taquba_workflow_sync.queue.dispatch import dispatcher as dispatcher_module
from taquba_workflow_sync.queue.dispatch.dispatcher import Dispatcher
from taquba_workflow_sync.storage.port.presence import RunningClaim
from taquba_workflow_sync.storage.port.settlement import Release, Settlement
from taquba_workflow_sync.storage.port.store import Store


class Holding:
    """A store in which this handle holds one claim; it keeps what is settled."""

    def __init__(self) -> None:
        self.settled: list[Settlement] = []

    def running(self, *, foreign: bool) -> list[RunningClaim]:
        return [RunningClaim("job", "t.1.1", "owner", False, 30_000, 30_000)]

    def settle_and_claim(
        self, settlements: Sequence[Settlement], claims: Sequence[object]
    ) -> tuple[list[None], list[object]]:
        self.settled += settlements
        return [None] * len(settlements), []


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(dispatcher_module, "time", cast(Any, clock))
    return clock


@pytest.fixture
def holding() -> Holding:
    return Holding()


@pytest.fixture
def dispatcher(holding: Holding) -> Dispatcher:
    return Dispatcher(cast(Store, holding), [], now_ms=lambda: 0, poll_interval=1.0, name="orphans")


def test_a_claim_that_is_handed_out_while_the_process_is_stopped_is_no_orphan(
    dispatcher: Dispatcher, holding: Holding, clock: Clock
) -> None:
    dispatcher._release_orphans()
    clock.now += 3_600
    dispatcher._release_orphans()
    assert holding.settled == []


def test_an_orphan_is_released_once_it_was_seen_for_seconds(
    dispatcher: Dispatcher, holding: Holding, clock: Clock
) -> None:
    for _ in range(6):
        dispatcher._release_orphans()
        assert holding.settled == []
        clock.now += 0.5
    dispatcher._release_orphans()
    assert holding.settled == [Settlement("job", "t.1.1", Release())]
