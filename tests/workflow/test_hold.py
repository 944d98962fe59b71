"""A run that keeps its claim from step to step: each step runs once, whatever becomes of the commit between two."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import Continue, Queue, QueueConfig, RunState, Step, StepOutcome, Succeed, WorkflowRuntime
from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.queue.dispatch.heartbeat import Heartbeat
from taquba_workflow_sync.queue.running import RUNNING
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest
from taquba_workflow_sync.storage.port.settlement import Answer, Ongoing, Settlement
from tests.support import PATIENCE, wait_until

from .support import STEPS, state

Answers = tuple[list[Answer], list[ClaimedRow]]
Turn = Callable[[Any, Sequence[Settlement], Sequence[ClaimRequest]], Answers]


class Steps:
    """A runner of so many steps, and what it was called with."""

    def __init__(self, many: int) -> None:
        self.many = many
        self.seen: list[Step] = []

    def run_step(self, step: Step) -> StepOutcome:
        self.seen.append(step)
        last = step.step_number == self.many - 1
        return Succeed(step.payload) if last else Continue(b"%d" % (step.step_number + 1))

    @property
    def numbers(self) -> list[int]:
        return [step.step_number for step in self.seen]


@pytest.fixture
def turns(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Turn], Turn]], None]:
    """Have each turn of the store go through a function."""
    kind = type(queue.handle.store)
    original = kind.settle_and_claim

    def wrap(around: Callable[[Turn], Turn]) -> None:
        monkeypatch.setattr(kind, "settle_and_claim", around(original))

    return wrap


def asks(settlements: Sequence[Settlement]) -> bool:
    return any(each.leave is not None for each in settlements)


def test_a_run_goes_on_under_its_claim_to_its_end(queue: Queue, turns: Any) -> None:
    held: list[Answer] = []
    claimed: list[str | None] = []

    def noting(original: Turn) -> Turn:
        def turn(
            store: Any, settlements: Sequence[Settlement], claims: Sequence[ClaimRequest], *counting: Any
        ) -> Answers:
            answers, rows = original(store, settlements, claims, *counting)
            held.extend(each for each in answers if isinstance(each, Ongoing))
            claimed.extend(row.run_id for row in rows)
            return answers, rows

        return turn

    turns(noting)
    steps = Steps(5)
    runtime = WorkflowRuntime(queue, steps, max_concurrent_steps=1)
    handle = runtime.submit(run_id="r", headers={"a": "b"})
    runtime.run_until_idle(PATIENCE)

    assert handle.result(PATIENCE) == b"4"
    assert steps.numbers == [0, 1, 2, 3, 4]
    assert held == [Ongoing.HELD] * 4
    assert claimed == ["r"]
    assert [step.payload for step in steps.seen] == [b"", b"1", b"2", b"3", b"4"]
    assert {(step.attempts, step.job_id) for step in steps.seen} == {(1, handle.first_job_id)}
    assert all(step.headers["a"] == "b" for step in steps.seen)
    assert len({id(step.cancel_token) for step in steps.seen}) == 5, "each step has a token of its own"
    history = queue.attempt_history(handle.first_job_id)
    assert [(each.step, each.attempt) for each in history] == [(number, 1) for number in range(5)]


def test_the_next_token_counts_as_running_before_the_commit(queue: Queue, turns: Any) -> None:
    running: list[bool] = []

    def noting(original: Turn) -> Turn:
        def turn(
            store: Any, settlements: Sequence[Settlement], claims: Sequence[ClaimRequest], *counting: Any
        ) -> Answers:
            running.extend(each.leave.token in RUNNING for each in settlements if each.leave is not None)
            return original(store, settlements, claims, *counting)

        return turn

    turns(noting)
    runtime = WorkflowRuntime(queue, Steps(3))
    runtime.submit()
    runtime.run_until_idle(PATIENCE)
    assert running == [True, True]
    assert list(RUNNING) == []


@pytest.mark.parametrize("is_stored", [True, False], ids=["stored", "not stored"])
def test_a_step_runs_once_though_it_is_unknown_whether_its_commit_happened(
    queue: Queue, turns: Any, is_stored: bool
) -> None:
    failed: list[int] = []

    def failing(original: Turn) -> Turn:
        def turn(
            store: Any, settlements: Sequence[Settlement], claims: Sequence[ClaimRequest], *counting: Any
        ) -> Answers:
            if not asks(settlements) or len(failed) == 2:
                return original(store, settlements, claims, *counting)
            failed.append(1)
            if is_stored:
                original(store, settlements, claims, *counting)
            return [StorageError("the outcome of this write is unknown")] * len(settlements), []

        return turn

    turns(failing)
    steps = Steps(4)
    runtime = WorkflowRuntime(queue, steps)
    handle = runtime.submit()
    runtime.run_until_idle(PATIENCE)

    assert len(failed) == 2
    assert handle.result(PATIENCE) == b"3"
    assert steps.numbers == [0, 1, 2, 3]
    assert list(RUNNING) == []


@pytest.mark.parametrize("others_wait", [False, True])
def test_a_hold_that_turns_out_to_be_stored_once_stopping_is_released(
    queue: Queue, turns: Any, others_wait: bool
) -> None:
    asked: list[ClaimRequest] = []
    steps = Steps(3)
    runtime = WorkflowRuntime(queue, steps)

    def failing(original: Turn) -> Turn:
        is_first = [True]

        def turn(
            store: Any, settlements: Sequence[Settlement], claims: Sequence[ClaimRequest], *counting: Any
        ) -> Answers:
            asked.extend(claims)
            if not asks(settlements) or not is_first[0]:
                return original(store, settlements, claims, *counting)
            is_first[0] = False
            original(store, settlements, claims, *counting)
            assert runtime._dispatcher is not None
            runtime._dispatcher.ask_to_stop()
            for pool in runtime._dispatcher._state.pools:
                pool.has_backlog = others_wait
            return [StorageError("the outcome of this write is unknown")] * len(settlements), []

        return turn

    turns(failing)
    handle = runtime.submit()
    runtime.start()
    wait_until(lambda: runtime._dispatcher is None or not runtime._dispatcher.is_running, "the end of the runtime")

    assert steps.numbers == [0]
    job = queue.get_job(handle.first_job_id)
    assert job is not None
    assert (job.step, job.attempts, state(runtime, handle.run_id)) == (1, 0, RunState.PENDING)
    assert queue.stats(STEPS).claimed == 0
    assert list(RUNNING) == []
    assert all(request.lanes for request in asked), "a claim of no lanes"
    runtime.stop()
    runtime.run_until_idle(PATIENCE)
    assert steps.numbers == [0, 1, 2]


def test_once_stopping_no_run_asks_to_go_on(queue: Queue, turns: Any) -> None:
    """It would only be released again, in a commit of its own."""
    asked: list[bool] = []

    def noting(original: Turn) -> Turn:
        def turn(
            store: Any, settlements: Sequence[Settlement], claims: Sequence[ClaimRequest], *counting: Any
        ) -> Answers:
            asked.append(asks(settlements))
            return original(store, settlements, claims, *counting)

        return turn

    def step(each: Step) -> StepOutcome:
        dispatcher = runtime._dispatcher
        assert dispatcher is not None
        dispatcher.ask_to_stop()
        return Continue()

    turns(noting)
    runtime = WorkflowRuntime(queue, step)
    handle = runtime.submit()
    runtime.start()
    wait_until(lambda: runtime._dispatcher is None or not runtime._dispatcher.is_running, "the end of the runtime")
    assert asked and not any(asked)
    assert state(runtime, handle.run_id) is RunState.PENDING


def test_a_cancel_between_two_steps_ends_the_run_there(queue: Queue) -> None:
    def step(each: Step) -> StepOutcome:
        if each.step_number == 1:
            assert runtime.cancel(each.run_id)
        return Continue()

    runtime = WorkflowRuntime(queue, step)
    handle = runtime.submit()
    runtime.run_until_idle(PATIENCE)
    status = runtime.status(handle.run_id)
    assert status is not None
    assert (status.state, status.current_step) == (RunState.CANCELLED, 1)
    assert list(RUNNING) == []


def test_a_run_of_short_steps_is_claimed_anew_when_its_lease_is_due(
    tmp_path: Path, turns: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat renews by tokens, and finds none where each step has another before it has written: as here."""
    monkeypatch.setattr(Heartbeat, "_renew", lambda self, running: None)
    claimed: list[int] = []

    def noting(original: Turn) -> Turn:
        def turn(
            store: Any, settlements: Sequence[Settlement], claims: Sequence[ClaimRequest], *counting: Any
        ) -> Answers:
            answers, rows = original(store, settlements, claims, *counting)
            claimed.extend(row.lease_until_ms for row in rows)
            return answers, rows

        return turn

    turns(noting)
    began = time.monotonic()

    def step(each: Step) -> StepOutcome:
        return Continue() if len(claimed) < 2 and time.monotonic() - began < PATIENCE else Succeed()

    with Queue.open(tmp_path / "s", durability="relaxed", default_config=QueueConfig(lease_duration=0.6)) as queue:
        runtime = WorkflowRuntime(queue, step, max_concurrent_steps=1)
        runtime.submit()
        runtime.run_until_idle(PATIENCE)
    assert len(claimed) >= 2
    assert claimed == sorted(set(claimed)), "each with a lease that ends later"
