"""Firing: who refuses keeps no other waiting, and is not asked again at once."""

from __future__ import annotations

import pytest

from taquba_workflow_sync import StorageError, StoreClosedError
from taquba_workflow_sync.queue.dispatch.firing import Firing
from taquba_workflow_sync.workflow.serving import fire_all


def test_a_queue_whose_firing_is_refused_keeps_no_other_waiting() -> None:
    fired: list[str] = []

    def refused() -> float | None:
        fired.append("refused")
        raise StorageError("the disk is full")

    def well() -> float | None:
        fired.append("well")
        return 3.0

    with pytest.raises(StorageError, match="the disk is full"):
        fire_all([refused, well])()
    assert fired == ["refused", "well"]
    assert fire_all([well, lambda: 1.0, lambda: None])() == 1.0


def test_what_was_refused_is_not_tried_again_at_each_look() -> None:
    calls: list[int] = []

    def fire() -> float | None:
        calls.append(1)
        raise StorageError("the disk is full")

    firing = Firing(fire)
    for _ in range(5):
        firing.look_again()
        firing.keep_up()
    assert len(calls) == 1


def test_a_look_brings_forward_what_was_fired_well() -> None:
    calls: list[int] = []

    def fire() -> float | None:
        calls.append(1)
        return 3600.0

    firing = Firing(fire)
    for _ in range(3):
        firing.look_again()
        firing.keep_up()
    assert len(calls) == 3


def test_a_queue_that_was_closed_ends_the_firing_and_nothing_else() -> None:
    """The dispatcher goes on for a step that outlives the close: its claim must be renewed and its end stored."""
    calls: list[int] = []

    def fire() -> float | None:
        calls.append(1)
        raise StoreClosedError("closed")

    firing = Firing(fire)
    for _ in range(3):
        firing.look_again()
        firing.keep_up()
    assert len(calls) == 1 and firing.next_due == float("inf")
