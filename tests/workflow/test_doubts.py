"""What a process does that cannot reach its store's server: it lets go in time, and nothing is charged for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import product
from typing import Any, cast

import pytest

from taquba_workflow_sync import (
    Cancel,
    Fail,
    Queue,
    RunSpec,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.queue.dispatch.doubts import BEAT_PATIENCE, SILENCE, Doubts
from taquba_workflow_sync.queue.dispatch.lane import Execution
from taquba_workflow_sync.queue.dispatch.pool import _execute
from taquba_workflow_sync.storage.port.settlement import Release
from taquba_workflow_sync.storage.port.store import Store
from tests.support import await_event, wait_until


class _Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


class _Server:
    """Answers beats, or does not, which takes the whole patience."""

    def __init__(self, clock: _Clock) -> None:
        self.clock = clock
        self.answers: bool | None = True

    def beat(self, patience: float) -> bool | None:
        if self.answers is False:
            self.clock.now += patience
        return self.answers


class _Running:
    has_returned = is_lost = is_in_doubt = False

    def __init__(self) -> None:
        self.causes: list[str] = []
        self.cancel_token = self

    def stop(self, cause: str) -> None:
        self.causes.append(cause)


def _doubts(*running: _Running) -> tuple[Doubts, _Server, _Clock]:
    clock = _Clock()
    server = _Server(clock)
    doubts = Doubts(cast(Store, server), lambda: cast("list[Execution]", list(running)), "test", monotonic=clock)
    doubts.begin()
    return doubts, server, clock


def test_after_half_the_grace_without_an_answer_what_runs_is_in_doubt() -> None:
    step = _Running()
    doubts, server, _ = _doubts(step)
    server.answers = False
    silent = 0.0
    while silent < SILENCE:
        assert not step.is_in_doubt
        assert not doubts.look()
        silent += BEAT_PATIENCE
    assert (step.is_in_doubt, step.causes) == (True, ["in doubt"])


def test_an_answer_in_between_ends_the_silence() -> None:
    step = _Running()
    doubts, server, _ = _doubts(step)
    for answers in (False, True, False, True, False):
        server.answers = answers
        assert doubts.look() is answers
    assert not step.is_in_doubt


def test_a_process_that_was_stopped_is_not_cut_off() -> None:
    step = _Running()
    doubts, server, clock = _doubts(step)
    clock.now += 3_600
    server.answers = False
    doubts.look()
    assert not step.is_in_doubt, "one gap is no silence"
    server.answers = True
    doubts.look()
    assert not step.is_in_doubt


@pytest.mark.parametrize("attribute", ["has_returned", "is_lost"])
def test_what_has_ended_or_is_lost_is_in_no_doubt(attribute: str) -> None:
    step = _Running()
    setattr(step, attribute, True)
    doubts, server, _ = _doubts(step)
    server.answers = False
    for _ in range(4):
        doubts.look()
    assert step.causes == []


def test_where_there_is_no_server_nothing_beats() -> None:
    doubts, server, _ = _doubts()
    server.answers = None
    before = threading.active_count()
    doubts.wake()
    assert threading.active_count() == before


class _Doubted:
    """A runner whose steps come to be in doubt while they run, and then end in some way."""

    def __init__(self, end: Callable[[Step], StepOutcome]) -> None:
        self._end = end
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.attempts: list[int] = []

    def __call__(self, step: Step) -> StepOutcome:
        self.attempts.append(step.attempts)
        if len(self.attempts) > 1:
            return Succeed(b"at last")
        self.begun.set()
        await_event(self.go_on)
        return self._end(step)


def _raise(error: BaseException) -> StepOutcome:
    raise error


ENDS: dict[str, Callable[[Step], StepOutcome]] = {
    "cancel": lambda step: Cancel("my token was set"),
    "error": lambda step: _raise(RuntimeError("cannot reach anything")),
    "permanent": lambda step: _raise(StepError.permanent("cannot reach anything")),
    "fail": lambda step: Fail("as planned"),
    "succeed": lambda step: Succeed(b"at once"),
}


@pytest.mark.parametrize(("how", "is_cancelled"), list(product(ENDS, (False, True))))
def test_a_cancel_or_an_error_in_doubt_costs_no_attempt_unless_the_row_is_asked_to_cancel(
    queue: Queue, how: str, is_cancelled: bool
) -> None:
    client = WorkflowClient(queue)
    runner = _Doubted(ENDS[how])
    runtime = WorkflowRuntime(queue, runner)
    client.submit(RunSpec(run_id="r", max_attempts_per_step=1))
    with runtime:
        await_event(runner.begun)
        (execution,) = _in_flight(runtime)
        execution.is_in_doubt = True
        execution.cancel_token.stop("in doubt")
        if is_cancelled:
            client.cancel("r")
        runner.go_on.set()
        outcome = client.wait("r", timeout=20)
    if is_cancelled:
        assert outcome.status == "cancelled"
    elif how == "fail":
        assert (outcome.status, outcome.error) == ("failed", "as planned")
    else:
        assert outcome.status == "succeeded"
        assert runner.attempts == ([1] if how == "succeed" else [1, 1]), "uncharged"


def _in_flight(runtime: WorkflowRuntime) -> list[Any]:
    found: list[Any] = []

    def look() -> bool:
        found[:] = runtime._dispatcher._state.in_flight.values() if runtime._dispatcher is not None else []
        return bool(found)

    wait_until(look)
    return found


def test_what_is_in_doubt_before_it_begins_goes_back_and_does_not_begin() -> None:
    class _Execution:
        is_in_doubt = True

        class row:
            id, token = "j", "t.1"

    settlement = _execute(cast(Execution, _Execution()))
    assert settlement.action == Release()
