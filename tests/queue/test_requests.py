"""What a turn asks the store for: claims for free threads, and for those that become free in the same commit."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from taquba_workflow_sync.queue.dispatch.lane import Execution, Lane
from taquba_workflow_sync.queue.dispatch.pool import Pool
from taquba_workflow_sync.queue.dispatch.settling import Settler
from taquba_workflow_sync.queue.dispatch.state import DispatchState
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.settlement import Advance, Hold, Settlement

_HELD = Advance(b"next", hold=Hold("token", 0, 0, ("q",)))


@pytest.fixture
def lane() -> Lane:
    return Lane("q", 1_000, cast(Any, None), cast(Any, None), holds=True)


@pytest.fixture
def state(lane: Lane) -> DispatchState:
    """One pool of one thread, which is at work, and more waits."""
    pool = Pool("requests", [lane], 1)
    pool.in_flight = 1
    pool.shut_down()
    return DispatchState([pool])


def requests(state: DispatchState, lane: Lane, action: Advance | None) -> list[ClaimRequest]:
    settler = Settler(cast(QueueHandle, type("Handle", (), {"store": None})), state, lambda: None)
    if action is None:
        return settler._requests([])
    row = cast(ClaimedRow, type("Row", (), {"queue": "q", "cancel_requested": False}))
    return settler._requests([(Execution(row, lane, threading.Event()), Settlement("j", "t", action, True))])


def test_nothing_is_claimed_for_threads_that_are_at_work(state: DispatchState, lane: Lane) -> None:
    assert requests(state, lane, None) == []


def test_a_step_that_ends_leaves_its_thread_to_another(state: DispatchState, lane: Lane) -> None:
    (request,) = requests(state, lane, Advance(b"next"))
    assert (request.limit, request.is_spare) == (1, False)


def test_a_claim_that_may_be_held_leaves_it_only_if_it_is_let_go_of(state: DispatchState, lane: Lane) -> None:
    (request,) = requests(state, lane, _HELD)
    assert (request.limit, request.is_spare) == (0, True)


@pytest.mark.parametrize("action", [None, _HELD])
def test_what_the_dead_have_left_is_taken_back_though_no_thread_is_free(
    state: DispatchState, lane: Lane, action: Advance | None
) -> None:
    state.abandoned = cast(Abandoned, object())
    (request,) = requests(state, lane, action)
    assert (request.limit, request.is_spare, request.abandoned is not None) == (0, False, True)
