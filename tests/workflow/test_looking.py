"""Status, outcome, lists, waiting (DESIGN 5.2, 6.7)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taquba_workflow_sync import (
    Cancel,
    Continue,
    Fail,
    Queue,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    RunPage,
    RunState,
    RunStatus,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    TaqubaError,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.storage.relational.sql.names import JOB
from taquba_workflow_sync.testing import ManualClock, ScriptedRunner
from tests.queue.support import PATIENCE, START, await_event, corrupt, in_thread

from .support import STEPS, Gate, echo, state, wait_until


def test_a_status_shows_the_run_from_submit_to_end(still: Queue, clock: ManualClock) -> None:
    gate = Gate(lambda step: Continue(b"") if step.step_number == 0 else Succeed())
    with WorkflowRuntime(still, gate) as runtime:
        handle = runtime.submit(run_id="r", headers={"h": "1"}, run_at=START + timedelta(seconds=5))
        assert handle.status() == RunStatus(
            "r", handle.first_job_id, RunState.PENDING, 0, 0, START, None, {"h": "1"}, None, "time"
        )
        clock.advance(5)
        await_event(gate.started)
        assert runtime.status("r") == RunStatus(
            "r", handle.first_job_id, RunState.RUNNING, 0, 1, START, None, {"h": "1"}, None
        )
        gate.go.set()
        handle.wait(PATIENCE)

    assert runtime.status("r") == RunStatus(
        "r", handle.first_job_id, RunState.SUCCEEDED, 1, 1, START, START + timedelta(seconds=5), {"h": "1"}, None
    )


def test_an_unknown_run_has_no_status_and_no_outcome(queue: Queue) -> None:
    client = WorkflowClient(queue)

    assert (client.status("nobody"), client.outcome("nobody")) == (None, None)
    with pytest.raises(RunNotFoundError, match="nobody"):
        client.wait("nobody", 0)


def test_a_run_of_another_queue_is_unknown(queue: Queue) -> None:
    WorkflowClient(queue, queue_name="a").submit(run_id="r")

    assert WorkflowClient(queue, queue_name="b").status("r") is None


def test_an_active_run_has_no_outcome(queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="r")

    assert client.outcome("r") is None


# -- result and wait ---------------------------------------------------------------------------------------------------


def test_result_returns_the_bytes_or_raises_with_the_outcome(queue: Queue) -> None:
    runtime = WorkflowRuntime(
        queue,
        ScriptedRunner([Succeed(b"r"), Fail("verdict"), Cancel("reason"), StepError.permanent("p")]),
        max_concurrent_steps=1,
    )
    good, failed, cancelled, dead = (runtime.submit() for _ in range(4))
    runtime.run_until_idle(PATIENCE)

    assert good.result() == b"r"
    with pytest.raises(RunFailedError, match="verdict") as failure:
        failed.result()
    assert failure.value.outcome == failed.wait(0)
    with pytest.raises(RunCancelledError, match="reason") as cancellation:
        cancelled.result()
    assert cancellation.value.outcome == cancelled.wait(0)
    with pytest.raises(RunFailedError, match="p"):
        dead.result()


@pytest.mark.parametrize("timeout", [0, 0.05, timedelta(milliseconds=50)])
def test_a_wait_that_takes_too_long_is_a_builtin_timeout_error(queue: Queue, timeout: float | timedelta) -> None:
    client = WorkflowClient(queue)
    handle = client.submit(run_id="r")
    for wait in (lambda: client.wait("r", timeout), lambda: handle.wait(timeout), lambda: handle.result(timeout)):
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="'r'") as caught:
            wait()
        assert not isinstance(caught.value, TaqubaError)
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        assert time.monotonic() - began >= seconds
    assert state(client, "r") is RunState.PENDING


def test_a_wait_wakes_when_the_run_ends_in_this_process(queue: Queue) -> None:
    gate = Gate()
    with WorkflowRuntime(queue, gate) as runtime:
        handle = runtime.submit(input=b"x")
        join = in_thread(lambda: handle.result(PATIENCE))
        await_event(gate.started)
        gate.go.set()

        assert join() == b"x"


def test_a_wait_wakes_when_the_run_ends_through_another_handle(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s") as here, Queue.open(tmp_path / "s") as there:
        handle = WorkflowClient(here).submit(input=b"x")
        join = in_thread(lambda: handle.result(PATIENCE))
        WorkflowRuntime(there, echo).run_until_idle(PATIENCE)

        assert join() == b"x"


def test_many_waiters_of_one_run_all_learn_its_end(queue: Queue) -> None:
    gate = Gate()
    with WorkflowRuntime(queue, gate) as runtime:
        handle = runtime.submit()
        joins = [in_thread(lambda: handle.wait(PATIENCE)) for _ in range(10)]
        await_event(gate.started)
        gate.go.set()

        assert len({join().finished_at for join in joins}) == 1


def test_a_wait_ends_when_the_queue_is_closed(queue: Queue) -> None:
    handle = WorkflowClient(queue).submit()
    join = in_thread(lambda: handle.wait(PATIENCE))
    wait_until(lambda: queue.handle.waiters.has_waiters)
    queue.close()

    with pytest.raises(TaqubaError, match="closed"):
        join()


@pytest.mark.parametrize("where", ["step", "hook"])
def test_a_wait_without_a_timeout_from_inside_is_refused(queue: Queue, where: str) -> None:
    caught: list[BaseException] = []
    done = threading.Event()

    def look() -> None:
        for call in (lambda: runtime.wait("other"), other.wait, other.result):
            try:
                call()
            except RuntimeError as error:
                caught.append(error)
        try:
            runtime.wait("other", 0.01)
        except TimeoutError as error:
            caught.append(error)
        done.set()

    def runner(step: Step) -> StepOutcome:
        if where == "step" and step.run_id == "this":
            look()
        return Succeed()

    def hook(outcome: object) -> None:
        if where == "hook" and outcome.run_id == "this":  # type: ignore[attr-defined]
            look()

    runtime = WorkflowRuntime(queue, runner, hook)
    other = runtime.submit(run_id="other", run_at=datetime.now(UTC) + timedelta(days=1))
    runtime.submit(run_id="this")
    runtime.run_until_idle(PATIENCE)

    assert done.is_set()
    assert [type(error) for error in caught] == [RuntimeError] * 3 + [TimeoutError]


def test_a_wait_without_a_timeout_from_a_cancel_hook_in_line_is_refused(queue: Queue) -> None:
    caught: list[BaseException] = []

    def hook(outcome: object) -> None:
        try:
            other.wait()
        except RuntimeError as error:
            caught.append(error)

    runtime = WorkflowRuntime(queue, echo, hook)
    other = runtime.submit()
    runtime.submit().cancel()

    assert len(caught) == 1


def test_after_a_step_the_thread_may_wait_again(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo, lambda outcome: None)
    runtime.submit().cancel()
    other = runtime.submit(input=b"x")
    with runtime:
        assert other.result() == b"x"


# -- retention ---------------------------------------------------------------------------------------------------------


def end_all(queue: Queue, *script: object, keep_runs: object) -> WorkflowRuntime:
    runtime = WorkflowRuntime(
        queue, ScriptedRunner(script), max_concurrent_steps=1, keep_runs=keep_runs,  # type: ignore[arg-type]
    )  # fmt: skip
    for number in range(len(script)):
        runtime.submit(run_id=f"r{number}")
    runtime.run_until_idle(PATIENCE)
    return runtime


def test_every_kind_of_end_is_kept_by_the_comparison_with_the_clock(still: Queue, clock: ManualClock) -> None:
    clock.advance(1000)
    runtime = end_all(still, Succeed(b"r"), Fail("f"), Cancel("c"), StepError.permanent("p"), keep_runs=10)
    names = [f"r{number}" for number in range(4)]
    clock.advance(9.999)
    assert [runtime.outcome(name) is not None for name in names] == [True] * 4
    assert len(runtime.list_runs().runs) == 4
    clock.advance(0.001)

    assert [runtime.status(name) for name in names] == [None] * 4
    assert [runtime.outcome(name) for name in names] == [None] * 4
    for run_state in (None, *RunState):
        assert runtime.list_runs(run_state).runs == []


def test_the_row_stays_a_minute_so_that_a_wait_elsewhere_still_learns(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, echo, keep_runs=None)
    handle = runtime.submit(run_id="r", input=b"x")
    runtime.run_until_idle(PATIENCE)

    assert (runtime.status("r"), handle.status(), runtime.outcome("r")) == (None, None, None)
    assert runtime.list_runs().runs == []
    assert runtime.submit(run_id="r", input=b"other").newly_submitted, "the name is free"
    clock.advance(59.999)
    still.handle.store.sweep()
    assert handle.result(0) == b"x"
    clock.advance(0.001)
    still.handle.store.sweep()
    with pytest.raises(RunNotFoundError):
        handle.wait(0)


def test_keep_runs_alone_governs_dead_runs_too(tmp_path: Path, clock: ManualClock) -> None:
    from taquba_workflow_sync import QueueConfig

    config = QueueConfig(dead_retention=1, keep_done_jobs=None)
    with Queue.open(tmp_path / "s", clock=clock, default_config=config) as queue:
        runtime = end_all(queue, StepError.permanent("p"), keep_runs=timedelta(days=1))
        clock.advance(timedelta(days=1) - timedelta(milliseconds=1))
        queue.handle.store.sweep()
        assert state(runtime, "r0") is RunState.FAILED
        clock.advance(0.001)
        queue.handle.store.sweep()
        assert queue.dead_jobs(STEPS).jobs == []


def test_retention_is_frozen_at_submit(still: Queue, clock: ManualClock) -> None:
    handle = WorkflowClient(still, keep_runs=10).submit(run_id="r")
    runtime = WorkflowRuntime(still, echo, keep_runs=1000)
    runtime.run_until_idle(PATIENCE)
    clock.advance(10)

    assert (handle.status(), runtime.status("r")) == (None, None)


def test_by_default_runs_are_kept_for_seven_days(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, echo)
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    clock.advance(timedelta(days=7) - timedelta(milliseconds=1))
    assert state(runtime, "r") is RunState.SUCCEEDED
    clock.advance(0.001)
    assert state(runtime, "r") is None


def test_an_active_run_is_never_swept_whatever_its_age(still: Queue, clock: ManualClock) -> None:
    client = WorkflowClient(still, keep_runs=None)
    client.submit(run_id="r")
    clock.advance(timedelta(days=3650))
    still.handle.store.sweep()

    assert state(client, "r") is RunState.PENDING


def test_a_running_runtime_sweeps_by_itself(still: Queue, clock: ManualClock) -> None:
    with WorkflowRuntime(still, echo, keep_runs=100, poll_interval=0.01) as runtime:
        handle = runtime.submit()
        handle.wait(PATIENCE)
        clock.advance(100)
        wait_until(lambda: still.get_job(handle.first_job_id) is None, "the sweep")


# -- lists -------------------------------------------------------------------------------------------------------------


def run_of_each_state(queue: Queue) -> dict[RunState, list[str]]:
    """Leave three runs in each state."""
    expected: dict[RunState, list[str]] = {}
    client = WorkflowClient(queue)
    ends: dict[RunState, Callable[[], object]] = {
        RunState.SUCCEEDED: lambda: Succeed(),
        RunState.FAILED: lambda: Fail("f"),
        RunState.CANCELLED: lambda: Cancel("c"),
    }
    for run_state, end in ends.items():
        expected[run_state] = [client.submit().run_id for _ in range(3)]
        WorkflowRuntime(queue, lambda step, end=end: end()).run_until_idle(PATIENCE)  # type: ignore[misc]
    dead = client.submit().run_id
    WorkflowRuntime(queue, ScriptedRunner([StepError.permanent("p")])).run_until_idle(PATIENCE)
    expected[RunState.FAILED].append(dead)
    expected[RunState.RUNNING] = [client.submit().run_id for _ in range(3)]
    assert len(queue.claim_batch(STEPS, 3)) == 3
    cancelling = [client.submit() for _ in range(3)]
    assert len(queue.claim_batch(STEPS, 3)) == 3
    for handle in cancelling:
        handle.cancel()
    expected[RunState.CANCELLING] = [handle.run_id for handle in cancelling]
    expected[RunState.PENDING] = [client.submit().run_id for _ in range(2)]
    expected[RunState.PENDING].append(client.submit(run_at=START + timedelta(days=1)).run_id)
    queue.enqueue(STEPS, b"a foreign job is no run")
    return expected


def walk(client: WorkflowClient, run_state: RunState | None, limit: int) -> list[RunStatus]:
    runs: list[RunStatus] = []
    page = client.list_runs(run_state, limit=limit)
    while True:
        assert len(page.runs) <= limit
        runs += page.runs
        if page.next_cursor is None:
            return runs
        page = client.list_runs(run_state, limit=limit, cursor=page.next_cursor)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_of_each_state_hold_its_runs_in_order_and_no_others(still: Queue, limit: int) -> None:
    expected = run_of_each_state(still)
    client = WorkflowClient(still)

    for run_state in RunState:
        runs = walk(client, run_state, limit)
        assert [run.run_id for run in runs] == expected[run_state], run_state
        assert {run.state for run in runs} == {run_state}
        assert runs == [client.status(run.run_id) for run in runs]
    assert sorted(run.run_id for run in walk(client, None, limit)) == sorted(
        run_id for ids in expected.values() for run_id in ids
    )


def test_a_cursor_stays_good_when_its_run_is_gone(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, echo, keep_runs=100)
    for number in range(4):
        runtime.submit(run_id=f"r{number}")
        if number < 2:
            runtime.run_until_idle(PATIENCE)
    page = runtime.list_runs(limit=2)
    clock.advance(1000)
    still.handle.store.sweep()

    rest = runtime.list_runs(limit=2, cursor=page.next_cursor)
    assert ([run.run_id for run in rest.runs], rest.next_cursor) == (["r2", "r3"], None)


def test_an_empty_queue_has_one_empty_page(queue: Queue) -> None:
    assert WorkflowClient(queue).list_runs() == RunPage([], None)


def test_a_name_used_twice_is_listed_twice(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo)
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    runtime.submit(run_id="r", if_finished="rerun")

    assert [(run.run_id, run.state.value) for run in runtime.list_runs().runs] == [("r", "succeeded"), ("r", "pending")]


@pytest.mark.embedded
def test_one_undecodable_row_does_not_spoil_the_list(queue: Queue) -> None:
    client = WorkflowClient(queue)
    for name in ("a", "b", "c"):
        client.submit(run_id=name)
    corrupt(queue, f"UPDATE {JOB} SET headers = '{{broken' WHERE run_id = 'b'")

    assert {"a", "c"} <= {run.run_id for run in client.list_runs().runs}


def test_outcome_and_terminal_status_speak_the_same_words() -> None:
    assert [each.value for each in TerminalStatus] == ["succeeded", "failed", "cancelled"]
    assert [each.value for each in RunState] == [
        "pending", "running", "cancelling", "succeeded", "failed", "cancelled",
    ]  # fmt: skip
