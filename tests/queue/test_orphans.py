"""Claims of this handle that no thread works on are let go, but not those that are just being handed out."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from taquba_workflow_sync.queue.dispatch import orphans as orphans_module
from taquba_workflow_sync.queue.dispatch.orphans import Orphans
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.port.presence import RunningClaim
from taquba_workflow_sync.storage.port.settlement import Release, Settlement


class Holding:
    """A store in which this handle holds one claim; it keeps what is settled."""

    def __init__(self) -> None:
        self.settled: list[Settlement] = []
        self.abandoned: set[str] = set()

    def running(self) -> list[RunningClaim]:
        return [RunningClaim("job", "t.1.1", False)]

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
    monkeypatch.setattr(orphans_module, "time", cast(Any, clock))
    return clock


@pytest.fixture
def holding() -> Holding:
    return Holding()


@pytest.fixture
def orphans(holding: Holding) -> Orphans:
    return Orphans(cast(QueueHandle, SimpleNamespace(store=holding, abandoned_here=holding.abandoned)))


def test_a_claim_that_is_handed_out_while_the_process_is_stopped_is_no_orphan(
    orphans: Orphans, holding: Holding, clock: Clock
) -> None:
    orphans.release()
    clock.now += 3_600
    orphans.release()
    assert holding.settled == []


def test_an_orphan_is_released_once_it_was_seen_for_seconds(orphans: Orphans, holding: Holding, clock: Clock) -> None:
    for _ in range(6):
        orphans.release()
        assert holding.settled == []
        clock.now += 0.5
    orphans.release()
    assert holding.settled == [Settlement("job", "t.1.1", Release())]


def test_a_claim_whose_step_has_ended_is_evidence_and_is_not_released(
    orphans: Orphans, holding: Holding, clock: Clock
) -> None:
    holding.abandoned.add("t.1.1")
    for _ in range(20):
        orphans.release()
        clock.now += 0.5
    assert holding.settled == []
    assert orphans.abandoned() == {"t.1.1"}


def test_an_abandoned_token_is_forgotten_once_its_claim_is_stored_no_longer(orphans: Orphans, holding: Holding) -> None:
    holding.abandoned |= {"t.1.1", "gone.1.2"}
    orphans.release()
    assert holding.abandoned == {"t.1.1"}
