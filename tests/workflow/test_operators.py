"""What operators do: list, count, tell what happened, cancel with a reason, retry, and many at once (FEATURES 8)."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

import pytest

from taquba_workflow_sync import (
    Cancel,
    Continue,
    EventKind,
    Fail,
    InvalidRunIdError,
    InvalidStateError,
    PayloadTooLargeError,
    Queue,
    RunEvent,
    RunNotFoundError,
    RunSpec,
    RunState,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.storage.port import operators as bounds
from taquba_workflow_sync.testing import ManualClock, RecordingHook, ScriptedRunner
from tests.queue.support import PATIENCE, START

from .support import NOTICES, STEPS, Gate, ended, settled, state


def submit(client: WorkflowClient, *run_ids: str, **fields: Any) -> None:
    client.submit_many([RunSpec(run_id=run_id, **fields) for run_id in run_ids])


def listed(client: WorkflowClient, state: RunState | None = None, **narrow: Any) -> list[str]:
    """The run ids of all pages."""
    found: list[str] = []
    cursor = None
    while True:
        page = client.list_runs(state, cursor=cursor, **narrow)
        found += [run.run_id for run in page.runs]
        cursor = page.next_cursor
        if cursor is None:
            return found


def by_name(step: Step) -> StepOutcome:
    """A step that ends as its run is called."""
    if step.run_id.startswith("fail"):
        return Fail(f"no {step.run_id}")
    if step.run_id.startswith("cancel"):
        return Cancel("mine")
    return Succeed()


# Counting


def test_count_runs_has_all_six_keys_from_the_beginning(queue: Queue) -> None:
    assert WorkflowClient(queue).count_runs() == dict.fromkeys(RunState, 0)


def test_count_runs_tells_where_runs_stand(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, by_name)
    submit(runtime, "good", "fail-1", "fail-2", "cancel")
    runtime.run_until_idle(PATIENCE)
    submit(runtime, "waits", "later", "stopped")
    runtime.cancel("stopped")
    queue.enqueue(STEPS, b"no run")
    counts = runtime.count_runs()
    assert counts == {
        RunState.PENDING: 2, RunState.RUNNING: 0, RunState.CANCELLING: 0, RunState.SUCCEEDED: 1, RunState.FAILED: 2,
        RunState.CANCELLED: 2,
    }  # fmt: skip
    assert all(len(runtime.list_runs(each).runs) == many for each, many in counts.items())


def test_running_and_cancelling_runs_are_counted_as_such(queue: Queue) -> None:
    gate = Gate()
    with WorkflowRuntime(queue, gate) as runtime:
        submit(runtime, "r")
        assert gate.started.wait(PATIENCE)
        assert runtime.count_runs()[RunState.RUNNING] == 1
        runtime.cancel("r")
        counts = runtime.count_runs()
        assert (counts[RunState.RUNNING], counts[RunState.CANCELLING]) == (0, 1)
        gate.go.set()
        ended(runtime, "r")
        assert runtime.count_runs()[RunState.CANCELLED] == 1


def test_an_ended_run_counts_until_it_is_swept(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, by_name, keep_runs=1)
    submit(runtime, "good")
    runtime.run_until_idle(PATIENCE)
    clock.advance(30)
    assert listed(runtime) == []
    assert runtime.count_runs()[RunState.SUCCEEDED] == 1
    clock.advance(3_600)
    while still.handle.store.sweep():
        pass
    assert runtime.count_runs()[RunState.SUCCEEDED] == 0


# Listing


def test_list_runs_finds_by_prefix_header_and_error(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, by_name)
    submit(runtime, "fail-a", "fail-b", headers={"tenant": "7"})
    submit(runtime, "good", headers={"tenant": "8"})
    runtime.run_until_idle(PATIENCE)
    assert listed(runtime, prefix="fail") == ["fail-a", "fail-b"]
    assert listed(runtime, header=("tenant", "7")) == ["fail-a", "fail-b"]
    assert listed(runtime, header=("tenant", "8")) == ["good"]
    assert listed(runtime, failed_with="o fail-b") == ["fail-b"]
    assert listed(runtime, RunState.FAILED, prefix="fail", header=("tenant", "7"), failed_with="-a") == ["fail-a"]
    assert listed(runtime, RunState.SUCCEEDED, failed_with="no") == []
    assert listed(runtime, newest_first=True) == ["good", "fail-b", "fail-a"]
    assert listed(runtime, newest_first=True, limit=1) == ["good", "fail-b", "fail-a"]
    assert listed(runtime, parent="good") == []


def test_since_is_inclusive_and_until_is_exclusive(still: Queue, clock: ManualClock) -> None:
    client = WorkflowClient(still)
    for name in "abc":
        submit(client, name)
        clock.advance(1)
    moments = [run.submitted_at for run in client.list_runs().runs]
    assert listed(client, since=moments[1]) == ["b", "c"]
    assert listed(client, until=moments[1]) == ["a"]
    assert listed(client, since=moments[1], until=moments[2]) == ["b"]
    beyond = moments[1] + timedelta(microseconds=1)
    assert listed(client, since=beyond) == ["c"]
    assert listed(client, until=beyond) == ["a", "b"]


def test_a_call_looks_at_ten_thousand_runs_and_a_short_page_leads_on(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bounds.MOST_EXAMINED == 10_000
    monkeypatch.setattr("taquba_workflow_sync.workflow.selection.MOST_EXAMINED", 5)
    client = WorkflowClient(queue)
    submit(client, *(f"r-{number}" for number in range(12)))
    submit(client, "last", headers={"tenant": "7"})
    first = client.list_runs(header=("tenant", "7"))
    assert first.runs == [] and first.next_cursor is not None
    assert listed(client, header=("tenant", "7")) == ["last"]


@pytest.mark.parametrize(
    ("narrow", "error", "says"),
    [
        ({"prefix": 1}, TypeError, "prefix"), ({"prefix": ""}, InvalidRunIdError, "prefix"),
        ({"prefix": "a b"}, InvalidRunIdError, "prefix"), ({"header": "tenant"}, TypeError, "header"),
        ({"header": ("tenant",)}, TypeError, "header"), ({"header": ("tenant", 7)}, TypeError, "header"),
        ({"header": (7, "x")}, TypeError, "header"), ({"header": ("", "x")}, ValueError, "header"),
        ({"since": "yesterday"}, TypeError, "since"), ({"since": datetime(2026, 1, 1)}, ValueError, "time zone"),
        ({"until": 1}, TypeError, "until"), ({"failed_with": b"x"}, TypeError, "failed_with"),
        ({"failed_with": ""}, ValueError, "failed_with"), ({"parent": "a b"}, InvalidRunIdError, "parent"),
        ({"newest_first": 1}, TypeError, "newest_first"), ({"state": "gone"}, ValueError, "state"),
        ({"limit": 0}, ValueError, "limit"), ({"cursor": 1}, TypeError, "cursor"),
        ({"cursor": "x"}, ValueError, "cursor"),
    ],
)  # fmt: skip
def test_list_runs_refuses_and_names_bad_arguments(
    queue: Queue, narrow: dict[str, Any], error: type[Exception], says: str
) -> None:
    submit(client := WorkflowClient(queue), "r")
    with pytest.raises(error, match=says):
        client.list_runs(**narrow)


# History


def test_history_tells_a_run_from_its_submit_to_its_end(queue: Queue) -> None:
    runner = ScriptedRunner([StepError.transient("boom"), Continue(b"next"), Succeed()])
    runtime = WorkflowRuntime(queue, runner)
    submit(runtime, "r")
    runtime.run_until_idle(PATIENCE)
    history = runtime.history("r")
    assert [(e.kind, e.step, e.attempt, e.outcome) for e in history] == [
        (EventKind.SUBMITTED, 0, None, None),
        (EventKind.STARTED, 0, 1, None),
        (EventKind.ENDED, 0, 1, "retried"),
        (EventKind.STARTED, 0, 2, None),
        (EventKind.ENDED, 0, 2, "continued"),
        (EventKind.STARTED, 1, 1, None),
        (EventKind.ENDED, 1, 1, "succeeded"),
        (EventKind.TERMINATED, 1, None, "succeeded"),
    ]
    assert history[2].error is not None and "boom" in history[2].error
    assert {e.pid for e in history if e.attempt is not None} == {os.getpid()}
    assert all(e.host for e in history if e.attempt is not None)
    assert all(isinstance(e, RunEvent) and e.at.tzinfo is not None for e in history)
    status = runtime.status("r")
    assert status is not None
    assert (history[0].at, history[-1].at) == (status.submitted_at, status.finished_at)


def test_history_tells_of_cancel_requests_retries_and_each_termination(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, ScriptedRunner([Fail("no"), Fail("no again"), Succeed()]))
    submit(runtime, "r")
    for _ in range(2):
        runtime.run_until_idle(PATIENCE)
        runtime.retry("r")
    runtime.run_until_idle(PATIENCE)
    told = [(e.kind, e.outcome, e.error) for e in runtime.history("r") if e.attempt is None]
    assert told == [
        (EventKind.SUBMITTED, None, None),
        (EventKind.TERMINATED, "failed", "no"), (EventKind.RETRIED, None, None),
        (EventKind.TERMINATED, "failed", "no again"), (EventKind.RETRIED, None, None),
        (EventKind.TERMINATED, "succeeded", None),
    ]  # fmt: skip


def test_history_of_a_cancelled_step_has_the_request_before_its_end(queue: Queue) -> None:
    gate = Gate()
    with WorkflowRuntime(queue, gate) as runtime:
        submit(runtime, "r")
        assert gate.started.wait(PATIENCE)
        runtime.cancel("r", reason="enough")
        gate.go.set()
        ended(runtime, "r")
        history = runtime.history("r")
    assert [e.kind for e in history][2:] == [EventKind.CANCEL_REQUESTED, EventKind.ENDED, EventKind.TERMINATED]
    assert (history[2].detail, history[-1].error) == ("enough", "enough")


def test_history_is_that_of_the_newest_run_of_the_name_and_of_no_other(queue: Queue) -> None:
    client = WorkflowClient(queue)
    with pytest.raises(RunNotFoundError, match="nobody"):
        client.history("nobody")
    with pytest.raises(InvalidRunIdError):
        client.history("a b")


# Cancelling


def test_the_reason_is_the_error_of_a_run_that_waited(queue: Queue) -> None:
    client = WorkflowClient(queue)
    submit(client, "r")
    assert client.cancel("r", reason="not needed any more")
    outcome = client.outcome("r")
    assert outcome is not None
    assert (outcome.status, outcome.error) == (TerminalStatus.CANCELLED, "not needed any more")


def test_the_reason_is_the_error_of_a_run_whose_step_ends_later(queue: Queue) -> None:
    gate, hook = Gate(), RecordingHook()
    with WorkflowRuntime(queue, gate, hook) as runtime:
        handle = runtime.submit(run_id="r")
        assert gate.started.wait(PATIENCE)
        assert handle.cancel(reason="enough")
        assert handle.cancel(reason="said twice")
        gate.go.set()
        assert ended(runtime, "r").error == "enough"
        settled(queue, NOTICES)
    assert [outcome.error for outcome in hook.outcomes] == ["enough"]


def test_without_a_reason_there_is_no_error(queue: Queue) -> None:
    client = WorkflowClient(queue)
    submit(client, "r")
    client.cancel("r")
    outcome = client.outcome("r")
    assert outcome is not None and outcome.error is None


def test_a_runners_own_cancel_gives_its_own_reason(queue: Queue) -> None:
    gate = Gate(then=lambda step: Cancel("mine"))
    with WorkflowRuntime(queue, gate) as runtime:
        submit(runtime, "r")
        assert gate.started.wait(PATIENCE)
        runtime.cancel("r", reason="theirs")
        gate.go.set()
        assert ended(runtime, "r").error == "mine"


@pytest.mark.parametrize(
    ("reason", "error"),
    [(1, TypeError), (b"x", TypeError), ("", ValueError), ("x" * 20_000, ValueError), ("\ud800", ValueError)],
)
def test_a_bad_reason_is_refused_and_nothing_is_cancelled(queue: Queue, reason: Any, error: type[Exception]) -> None:
    handle = (client := WorkflowClient(queue)).submit(run_id="r")
    for call in (lambda: client.cancel("r", reason=reason), lambda: handle.cancel(reason=reason),
                 lambda: client.cancel_many(all=True, reason=reason)):  # fmt: skip
        with pytest.raises(error, match="reason"):
            call()
    assert state(client, "r") is RunState.PENDING


# Retrying


def fail_once(queue: Queue, run_step: Any) -> WorkflowRuntime:
    runtime = WorkflowRuntime(queue, run_step)
    submit(runtime, "r", input=b"input")
    runtime.run_until_idle(PATIENCE)
    assert state(runtime, "r") is RunState.FAILED
    return runtime


def test_a_retry_may_give_another_payload(queue: Queue) -> None:
    runtime = fail_once(queue, lambda step: Fail("bad input") if step.payload == b"input" else Succeed(step.payload))
    runtime.retry("r", payload=b"better")
    runtime.run_until_idle(PATIENCE)
    assert ended(runtime, "r").result == b"better"


def test_a_retry_keeps_memos_unless_they_are_to_be_cleared(queue: Queue) -> None:
    calls: list[str] = []

    def run_step(step: Step) -> StepOutcome:
        step.memo.call("step", lambda: calls.append("step") or b"")
        step.run_memo.call("run", lambda: calls.append("run") or b"")
        return Fail("no")

    runtime = fail_once(queue, run_step)
    runtime.retry("r")
    runtime.run_until_idle(PATIENCE)
    assert calls == ["step", "run"]
    runtime.retry("r", memo="clear")
    for scope in ("step", "run"):
        assert runtime.memo("r", scope=scope).items == [], "invisible at once"
    runtime.run_until_idle(PATIENCE)
    assert calls == ["step", "run"] * 2


def test_a_handle_retries_its_own_run(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, ScriptedRunner([Fail("no"), Succeed(b"x")]))
    handle = runtime.submit(run_id="r")
    with pytest.raises(InvalidStateError):
        handle.retry()
    runtime.run_until_idle(PATIENCE)
    handle.retry(payload=b"other", memo="clear")
    runtime.run_until_idle(PATIENCE)
    assert handle.result(PATIENCE) == b"x"


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"payload": "text"}, TypeError, "payload"), ({"payload": b"x" * 101}, PayloadTooLargeError, "payload"),
        ({"memo": None}, TypeError, "memo"), ({"memo": "forget"}, ValueError, "memo"),
    ],
)  # fmt: skip
def test_a_bad_retry_is_refused_and_nothing_is_retried(
    tmp_path: Any, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    with Queue.open(tmp_path / "small", durability="relaxed", max_payload_bytes=100) as small:
        runtime = WorkflowRuntime(small, lambda step: Fail("no"))
        handle = runtime.submit(run_id="r")
        runtime.run_until_idle(PATIENCE)
        for call in (lambda: runtime.retry("r", **given), lambda: handle.retry(**given)):
            with pytest.raises(error, match=says):
                call()
        assert state(runtime, "r") is RunState.FAILED


# Many


@pytest.mark.parametrize("what", ["cancel_many", "retry_many"])
def test_neither_a_filter_nor_all_is_refused_and_so_are_both(queue: Queue, what: str) -> None:
    submit(client := WorkflowClient(queue), "r")
    call = getattr(client, what)
    with pytest.raises(ValueError, match="neither a filter nor all=True"):
        call()
    with pytest.raises(ValueError, match="both"):
        call(prefix="r", all=True)
    with pytest.raises(TypeError, match="all"):
        call(all=1)
    assert state(client, "r") is RunState.PENDING


def test_cancel_many_cancels_what_the_filters_find(queue: Queue) -> None:
    client = WorkflowClient(queue)
    submit(client, "a-1", "a-2", "b-1")
    assert client.cancel_many(prefix="a-", reason="closing") == 2
    assert listed(client, RunState.CANCELLED) == ["a-1", "a-2"]
    outcome = client.outcome("a-1")
    assert outcome is not None and outcome.error == "closing"
    assert client.cancel_many(all=True) == 1
    assert client.cancel_many(all=True) == 0


def test_cancel_many_tells_running_steps_and_leaves_hooks_to_their_lane(queue: Queue) -> None:
    gate, hook = Gate(), RecordingHook()
    runtime = WorkflowRuntime(queue, gate, hook)
    submit(runtime, "waits-1", "waits-2", run_at=datetime.now(START.tzinfo) + timedelta(hours=1))
    assert runtime.cancel_many(prefix="waits") == 2
    assert hook.outcomes == [], "they are told later"
    with runtime:
        submit(runtime, "runs")
        assert gate.started.wait(PATIENCE)
        assert runtime.cancel_many(RunState.RUNNING, reason="enough") == 1
        assert gate.steps[0].cancel_token.wait(PATIENCE)
        gate.go.set()
        assert ended(runtime, "runs").error == "enough"
        settled(queue, NOTICES)
    assert {outcome.run_id for outcome in hook.outcomes} == {"waits-1", "waits-2", "runs"}


def test_retry_many_retries_what_the_filters_find(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, by_name)
    submit(runtime, "fail-a", "fail-b", "good", "cancel")
    runtime.run_until_idle(PATIENCE)
    assert runtime.retry_many(failed_with="fail-b") == 1
    assert listed(runtime, RunState.PENDING) == ["fail-b"]
    assert runtime.retry_many(RunState.SUCCEEDED) == runtime.retry_many(RunState.CANCELLED) == 0
    assert runtime.retry_many(all=True) == 1
    assert listed(runtime, RunState.PENDING) == ["fail-a", "fail-b"]


def test_what_is_done_to_many_goes_beyond_one_commit(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, lambda step: Fail("no"))
    submit(runtime, *(f"r-{number}" for number in range(1_100)))
    assert runtime.cancel_many(all=True) == 1_100
    assert runtime.count_runs()[RunState.CANCELLED] == 1_100
