"""What a turn asks the store for: claims for free threads, and for those that become free in the same commit."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, cast

import pytest

from taquba_workflow_sync.queue.dispatch.lane import Execution, Lane
from taquba_workflow_sync.queue.dispatch.pool import Pool
from taquba_workflow_sync.queue.dispatch.settling import Settler
from taquba_workflow_sync.queue.dispatch.state import DispatchState
from taquba_workflow_sync.queue.dispatch.telling import Teller
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
    settler = Settler(cast(QueueHandle, type("Handle", (), {"store": None})), state, lambda: None, Teller("requests"))
    if action is None:
        return settler._requests([])
    row = cast(ClaimedRow, type("Row", (), {"queue": "q", "cancel_requested": False}))
    execution = Execution(row, lane, threading.Event())
    if isinstance(action, Advance) and action.hold is not None:
        execution.following = Execution(row, lane, threading.Event())
    return settler._requests([(execution, Settlement("j", "t", action, True))])


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


def test_a_stop_asks_for_the_hooks_of_every_flow(lane: Lane) -> None:
    """One flow's runs may have ended without anybody to be told; the others' are told all the same."""
    lanes = [
        replace(lane, queue=name, reserved=lambda many=many: many) for name, many in (("a", 2), ("b", 0), ("c", 1))
    ]
    pool = Pool("requests", lanes, 5)
    pool.shut_down()
    state = DispatchState([pool])
    state.stop_asked = True
    (request,) = requests(state, lane, None)
    assert ([each.queue for each in request.lanes], request.limit) == (["a", "c"], 3)
