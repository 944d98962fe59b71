"""Limits, pauses and priorities that age, as users meet them (FEATURES 5)."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import (
    Continue,
    ContinueAfter,
    Fail,
    Limit,
    LimitUsage,
    Queue,
    QueueConfig,
    QueueFullError,
    RunSpec,
    RunState,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.testing import ManualClock, RecordingHook
from tests.support import PATIENCE, wait_until

from .support import STEPS, Gate, echo, ended, state


@dataclass
class Crowd:
    """A runner that notes how many steps of a key run at once, and holds them until so many have come, or a while."""

    most: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)
    steps: int = 1
    _now: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pause: threading.Event = field(default_factory=threading.Event)

    def run_step(self, step: Step) -> StepOutcome:
        key = step.headers.get("key", "")
        with self._lock:
            self._now[key] += 1
            self.most[key] = max(self.most[key], self._now[key])
            self.order.append(step.run_id)
        self._pause.wait(0.01)  # as long as a step takes
        with self._lock:
            self._now[key] -= 1
        return Continue(b"") if step.step_number + 1 < self.steps else Succeed()


def submit(client: WorkflowClient, *names: str, key: str = "customer-7", **fields: Any) -> None:
    client.submit_many([RunSpec(run_id=name, limit_key=key, headers={"key": key}, **fields) for name in names])


def waits(client: WorkflowClient) -> dict[str, str | None]:
    return {run.run_id: run.waiting_for for run in client.list_runs(RunState.PENDING).runs}


# -- set_limit, clear_limit, limits


def test_limits_shows_every_limit_as_it_was_set(queue: Queue) -> None:
    client = WorkflowClient(queue)
    assert client.limits() == []
    client.set_limit(concurrency=8, rate=(100, timedelta(minutes=1)), max_waiting=10_000)
    client.set_limit(key="customer-*", concurrency=2, hold="run")
    client.set_limit(key="customer-7", rate=(3, 0.5))
    assert client.limits() == [
        Limit(None, 8, (100, 60.0), "step", 10_000),
        Limit("customer-*", 2, None, "run", None),
        Limit("customer-7", None, (3, 0.5), "step", None),
    ]
    client.set_limit(key="customer-7", concurrency=1)
    assert client.limits()[-1] == Limit("customer-7", 1, None, "step", None), "the whole limit is replaced"
    client.clear_limit("customer-7")
    client.clear_limit()
    client.clear_limit("unknown")
    assert [limit.key for limit in client.limits()] == ["customer-*"]


def test_usage_shows_the_queue_and_then_each_key_the_most_parked_first(queue: Queue) -> None:
    gate = Gate()
    runtime = WorkflowRuntime(queue, gate)
    assert runtime.limit_usage() == []
    runtime.set_limit(key="customer-*", concurrency=1)
    submit(runtime, "a", "b", "c")
    runtime.start()
    try:
        wait_until(gate.started.is_set, "the first step")
        submit(runtime, "d", "e", key="customer-2")
        submit(runtime, "f", "g", key="no limit is of it")
        wait_until(lambda: len(gate.steps) == 4, "a step of each that has a slot")
        assert runtime.limit_usage() == [
            LimitUsage(None, 4, 3),
            LimitUsage("customer-7", 1, 2),
            LimitUsage("customer-2", 1, 1),
        ]
    finally:
        gate.go.set()
        runtime.stop()


def test_limits_are_the_store_s_and_of_one_queue(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "store") as queue:
        WorkflowClient(queue, queue_name="one").set_limit(key="k", concurrency=1)
    with Queue.open(tmp_path / "store") as queue:
        assert len(WorkflowClient(queue, queue_name="one").limits()) == 1
        assert WorkflowClient(queue, queue_name="two").limits() == []
        two = WorkflowClient(queue, queue_name="two")
        submit(two, "a", "b", key="k")
        assert set(waits(two).values()) == {None}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"concurrency": 0},
        {"concurrency": -1},
        {"rate": (0, 1)},
        {"rate": (10_001, 1)},
        {"rate": (1, 0)},
        {"rate": (1, float("nan"))},
        {"rate": (1,)},
        {"max_waiting": -1},
        {"concurrency": 1, "hold": "day"},
        {"concurrency": 1, "hold": "run"},
        {"concurrency": 1, "key": ""},
        {"concurrency": 1, "key": "a*b"},
        {"concurrency": 1, "key": "**"},
        {"concurrency": 1, "key": "ä" * 128},
        {"concurrency": 1, "key": "a\0"},
        {"concurrency": 1, "key": "\ud800"},
    ],
    ids=repr,
)
def test_a_senseless_limit_is_refused_and_nothing_is_changed(queue: Queue, fields: dict[str, Any]) -> None:
    client = WorkflowClient(queue)
    with pytest.raises(ValueError, match=r"must|give|needs|contains|has "):
        client.set_limit(**fields)
    assert client.limits() == []


@pytest.mark.parametrize(
    "fields",
    [{"concurrency": "1"}, {"concurrency": True}, {"rate": 5}, {"rate": "ab"}, {"rate": (1, "s")}, {"max_waiting": 1.5},
     {"concurrency": 1, "hold": None}, {"concurrency": 1, "key": 5}, {"concurrency": 1, "key": b"k"}],
    ids=repr,
)  # fmt: skip
def test_a_limit_of_the_wrong_type_is_refused(queue: Queue, fields: dict[str, Any]) -> None:
    client = WorkflowClient(queue)
    with pytest.raises(TypeError, match="must be"):
        client.set_limit(**fields)
    assert client.limits() == []


@pytest.mark.parametrize(
    ("key", "error"),
    [(5, TypeError), (b"k", TypeError), ("", ValueError), ("a*", ValueError), ("x" * 256, ValueError),
     ("a\0b", ValueError), ("\udfff", ValueError)],
)  # fmt: skip
def test_a_limit_key_has_1_to_255_bytes_and_no_star(key: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="limit_key"):
        RunSpec(limit_key=key)
    assert RunSpec(limit_key="ä" * 127).limit_key == "ä" * 127


# -- concurrency


def test_steps_of_a_key_run_as_many_at_once_as_its_limit_over_two_runtimes(tmp_path: Path) -> None:
    crowd = Crowd(steps=2)
    with Queue.open(tmp_path / "store", durability="relaxed") as one, Queue.open(tmp_path / "store") as two:
        client = WorkflowClient(one)
        client.set_limit(key="customer-*", concurrency=2)
        for customer in range(3):
            key = f"customer-{customer}"
            submit(client, *(f"{key}-{number}" for number in range(6)), key=key)
        with WorkflowRuntime(one, crowd, poll_interval=0.02), WorkflowRuntime(two, crowd, poll_interval=0.02):
            for customer in range(3):
                for number in range(6):
                    assert ended(client, f"customer-{customer}-{number}").error is None
    assert crowd.most == {f"customer-{customer}": 2 for customer in range(3)}


def test_runs_of_one_key_interleave(queue: Queue) -> None:
    crowd = Crowd(steps=3)
    runtime = WorkflowRuntime(queue, crowd)
    runtime.set_limit(key="*", concurrency=1)
    submit(runtime, "a", "b")
    assert runtime.run_until_idle(PATIENCE).succeeded == 2
    assert crowd.order == ["a", "b", "a", "b", "a", "b"]


def test_a_run_that_waits_holds_nothing_unless_its_limit_holds_for_the_run(queue: Queue) -> None:
    runtime = WorkflowRuntime(
        queue, lambda step: ContinueAfter(b"", 3600) if step.run_id == "waits" and not step.step_number else Succeed()
    )
    runtime.set_limit(key="by-step", concurrency=1)
    runtime.set_limit(key="by-run", concurrency=1, hold="run")
    submit(runtime, "waits", "next", key="by-step")
    runtime.run_until_idle(PATIENCE)
    assert (state(runtime, "next"), runtime.status("waits").waiting_for) == (RunState.SUCCEEDED, "time")  # type: ignore[union-attr]
    runtime.cancel("waits")
    submit(runtime, "waits", key="by-run", input=b"2", if_finished="rerun")
    submit(runtime, "next", key="by-run", input=b"2", if_finished="rerun")
    runtime.run_until_idle(PATIENCE)
    assert waits(runtime) == {"waits": "time", "next": "limit:by-run"}
    runtime.cancel("waits")
    runtime.run_until_idle(PATIENCE)
    assert state(runtime, "next") is RunState.SUCCEEDED


def test_a_run_that_backs_off_holds_nothing(tmp_path: Path) -> None:
    def fails_once(step: Step) -> StepOutcome:
        if step.run_id == "fails" and step.attempts == 1:
            raise StepError("not yet")
        return Succeed()

    with Queue.open(tmp_path / "store", default_config=QueueConfig(retry_backoff_base=3600)) as queue:
        runtime = WorkflowRuntime(queue, fails_once)
        runtime.set_limit(key="*", concurrency=1)
        submit(runtime, "fails", "next")
        with runtime:
            ended(runtime, "next")
        assert waits(runtime) == {"fails": "time"}


def test_a_lowered_limit_holds_from_its_return_and_leaves_steps_that_run(queue: Queue) -> None:
    gate = Gate()
    client = WorkflowClient(queue)
    submit(client, *"abcdef")
    with WorkflowRuntime(queue, gate, max_concurrent_steps=3, poll_interval=0.02):
        wait_until(lambda: len(gate.steps) == 3, "three steps")
        client.set_limit(key="customer-7", concurrency=1)
        assert list(waits(client).values()) == ["limit:customer-7"] * 3
        gate.go.set()
        for name in "abcdef":
            ended(client, name)


def test_a_raised_limit_lets_the_parked_go_on_in_a_running_runtime(queue: Queue) -> None:
    gate = Gate()
    client = WorkflowClient(queue)
    client.set_limit(key="*", concurrency=1)
    submit(client, *"abc")
    with WorkflowRuntime(queue, gate, poll_interval=60):
        wait_until(lambda: len(gate.steps) == 1, "a step")
        client.set_limit(key="*", concurrency=2)
        wait_until(lambda: len(gate.steps) == 2, "a second step")
        client.clear_limit("*")
        wait_until(lambda: len(gate.steps) == 3, "a third step")
        gate.go.set()


def test_more_than_a_commit_s_worth_of_rows_is_parked_and_let_in(queue: Queue) -> None:
    client = WorkflowClient(queue)
    submit(client, *(f"r{number}" for number in range(1_201)))
    client.set_limit(key="customer-*", concurrency=1)
    assert sum(each is not None for each in _all_waits(client)) == 1_200
    client.clear_limit("customer-*")
    assert sum(each is not None for each in _all_waits(client)) == 0
    assert queue.check().ok


def _all_waits(client: WorkflowClient) -> list[str | None]:
    return [run.waiting_for for run in client.list_runs(limit=10_000).runs]


def test_a_queue_s_limit_bounds_the_steps_of_all_its_runs(queue: Queue) -> None:
    crowd = Crowd()
    runtime = WorkflowRuntime(queue, crowd)
    runtime.set_limit(concurrency=3)
    runtime.set_limit(key="one", concurrency=1)
    submit(runtime, *(f"one-{number}" for number in range(3)), key="one")
    runtime.submit_many([RunSpec(run_id=f"plain-{number}") for number in range(9)])
    assert set(waits(runtime).values()) == {None, "limit:one"}, "a queue's limit parks nothing"
    assert runtime.run_until_idle(PATIENCE).succeeded == 12
    assert (crowd.most["one"], crowd.most[""] <= 3) == (1, True)


# -- rate


def test_a_rate_is_a_due_time_for_run_until_idle(tmp_path: Path) -> None:
    clock = ManualClock()
    with Queue.open(tmp_path / "store", clock=clock, durability="relaxed") as queue:
        runtime = WorkflowRuntime(queue, echo)
        runtime.set_limit(key="*", rate=(2, 60))
        submit(runtime, *"abcde")
        assert runtime.run_until_idle(PATIENCE).succeeded == 2
        assert list(waits(runtime).values()) == ["limit:customer-7"] * 3
        assert runtime.run_until_idle(PATIENCE).succeeded == 0
        clock.advance(60)
        assert runtime.run_until_idle(PATIENCE).succeeded == 2


def test_a_running_runtime_goes_on_as_the_window_does(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo, poll_interval=60)
    runtime.set_limit(key="*", rate=(3, 0.2))
    submit(runtime, *(f"r{number}" for number in range(9)))
    with runtime:
        for number in range(9):
            ended(runtime, f"r{number}")
    starts = sorted(
        attempt.claimed_at for row in queue.list_jobs(STEPS).jobs for attempt in queue.attempt_history(row.id)
    )
    assert all(later - first >= timedelta(seconds=0.2) for first, later in zip(starts, starts[3:], strict=False))


def test_retries_count_for_a_rate(tmp_path: Path) -> None:
    clock = ManualClock()

    def fails(step: Step) -> StepOutcome:
        raise StepError("again")

    config = QueueConfig(retry_backoff_base=0, max_attempts=10)
    with Queue.open(tmp_path / "store", clock=clock, default_config=config) as queue:
        runtime = WorkflowRuntime(queue, fails)
        runtime.set_limit(key="*", rate=(4, 60))
        submit(runtime, "a")
        runtime.run_until_idle(PATIENCE)
        assert runtime.status("a").attempts == 4  # type: ignore[union-attr]


# -- max_waiting


def test_a_full_queue_refuses_new_submits_and_nothing_else(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, lambda step: Fail("no"))
    runtime.set_limit(max_waiting=2)
    runtime.submit(run_id="a")
    runtime.submit(run_id="b")
    with pytest.raises(QueueFullError) as refused:
        runtime.submit(run_id="c")
    assert not refused.value.is_permanent
    with pytest.raises(QueueFullError):
        runtime.submit_many([RunSpec(run_id="b"), RunSpec(run_id="d")])
    assert runtime.status("d") is None
    assert not runtime.submit(run_id="a").newly_submitted
    runtime.run_until_idle(PATIENCE)
    runtime.submit(run_id="c")
    runtime.submit(run_id="d")
    runtime.retry("a")
    assert queue.stats(STEPS).pending == 3


def test_parked_runs_count_as_waiting(queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.set_limit(key="*", concurrency=1, max_waiting=2)
    submit(client, "a", "b")
    with pytest.raises(QueueFullError):
        submit(client, "c")
    submit(client, "c", key="another")


# -- pause


def test_a_paused_queue_is_claimed_by_nobody_until_it_is_resumed(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "store") as queue:
        WorkflowClient(queue).pause()
    with Queue.open(tmp_path / "store") as queue:
        runtime = WorkflowRuntime(queue, echo, poll_interval=60)
        assert queue.stats(STEPS).paused
        runtime.submit(run_id="a")
        assert queue.claim(STEPS) is None
        assert queue.claim_with_wait(STEPS, 0.01) is None
        assert runtime.run_until_idle(PATIENCE).steps == 0
        assert state(runtime, "a") is RunState.PENDING
        with runtime:
            runtime.resume()
            ended(runtime, "a")
        assert not queue.stats(STEPS).paused


def test_a_pause_lets_a_step_end_and_does_not_begin_the_next(queue: Queue) -> None:
    gate = Gate(lambda step: Continue(b"") if step.step_number < 3 else Succeed())
    runtime = WorkflowRuntime(queue, gate, poll_interval=0.02)
    runtime.submit(run_id="a")
    with runtime:
        wait_until(lambda: gate.steps, "a step")
        runtime.pause()
        gate.go.set()
        wait_until(lambda: state(runtime, "a") is RunState.PENDING, "the end of the step")
        assert len(gate.steps) == 1
        runtime.resume()
        ended(runtime, "a")


def test_a_paused_queue_cancels_and_notifies(queue: Queue) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, echo, hook)
    runtime.pause()
    runtime.submit(run_id="a")
    assert runtime.cancel("a")
    runtime.run_until_idle(PATIENCE)
    assert [outcome.run_id for outcome in hook.outcomes] == ["a"]


def test_a_queue_that_was_never_used_is_paused_and_resumed(queue: Queue) -> None:
    client = WorkflowClient(queue, queue_name="new")
    client.resume()
    assert not queue.stats("new").paused
    client.pause()
    client.pause()
    assert queue.stats("new").paused


# -- aging


def test_waiting_gains_priority_where_it_ages(tmp_path: Path) -> None:
    order: dict[bool, list[str]] = {}
    for ages in (False, True):
        clock, crowd = ManualClock(), Crowd()
        config = QueueConfig(priority_aging=timedelta(minutes=1) if ages else None)
        with Queue.open(tmp_path / str(ages), clock=clock, default_config=config) as queue:
            runtime = WorkflowRuntime(queue, crowd, max_concurrent_steps=1)
            runtime.submit(run_id="low", priority=2000)
            clock.advance(61)
            runtime.submit(run_id="normal", priority=1000)
            runtime.run_until_idle(PATIENCE)
        order[ages] = crowd.order
    assert order == {False: ["normal", "low"], True: ["low", "normal"]}


def test_steps_take_turns_where_priorities_age(tmp_path: Path) -> None:
    clock, crowd = ManualClock(), Crowd(steps=3)
    config = QueueConfig(priority_aging=60)
    with Queue.open(tmp_path / "store", clock=clock, default_config=config) as queue:
        runtime = WorkflowRuntime(queue, crowd, max_concurrent_steps=1)
        runtime.submit(run_id="a")
        runtime.submit(run_id="b")
        assert runtime.run_until_idle(PATIENCE).succeeded == 2
    assert crowd.order == ["a", "b", "a", "b", "a", "b"]


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)])
def test_priority_aging_is_a_duration(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="priority_aging"):
        QueueConfig(priority_aging=value)
