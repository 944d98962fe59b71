"""Terminal hooks: told of what committed, at least once, and only once there is one (DESIGN 6.6)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import (
    Cancel,
    Continue,
    Fail,
    JobStatus,
    NoopTerminalHook,
    Queue,
    QueueConfig,
    RunOutcome,
    RunSpec,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    TerminalHook,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.testing import ManualClock, RecordingHook, ScriptedRunner
from tests.queue.support import PATIENCE, START, await_event, counters
from tests.stable_ids import stable_id

from .support import NOTICES, STEPS, Gate, echo, settled, wait_until


@pytest.mark.parametrize(
    ("item", "status", "error", "result"),
    [
        (Succeed(b"r" * 5000), TerminalStatus.SUCCEEDED, None, b"r" * 5000),
        (Succeed(), TerminalStatus.SUCCEEDED, None, b""),
        (Fail("why"), TerminalStatus.FAILED, "why", None),
        (Cancel("why"), TerminalStatus.CANCELLED, "why", None),
        (StepError.permanent("why"), TerminalStatus.FAILED, "why", None),
        (OSError("why"), TerminalStatus.FAILED, "OSError: why", None),
    ],
    ids=stable_id,
)
def test_the_hook_is_told_what_the_client_is_told(
    queue: Queue, item: Any, status: TerminalStatus, error: str | None, result: bytes | None
) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, ScriptedRunner([Continue(), item]), hook)
    handle = runtime.submit(headers={"h": "ü", "long": "x" * 5000}, max_attempts_per_step=1)
    runtime.run_until_idle(PATIENCE)

    (outcome,) = hook.outcomes
    assert outcome == runtime.outcome(handle.run_id) == handle.wait(0)
    assert (outcome.status, outcome.error, outcome.result) == (status, error, result)
    assert (outcome.run_id, outcome.job_id, outcome.termination) == (handle.run_id, handle.first_job_id, 1)
    assert (outcome.final_step, outcome.headers) == (1, {"h": "ü", "long": "x" * 5000})


def test_it_runs_only_after_the_outcome_committed(queue: Queue) -> None:
    seen: list[object] = []
    runtime = WorkflowRuntime(queue, echo, lambda outcome: seen.append(client.outcome(outcome.run_id) == outcome))
    with Queue.open(queue.path) as elsewhere:
        client = WorkflowClient(elsewhere)
        runtime.submit()
        runtime.run_until_idle(PATIENCE)

    assert seen == [True]


def test_a_retried_step_tells_nothing(still: Queue) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(still, ScriptedRunner([OSError(), Succeed()]), hook)
    runtime.submit()
    with runtime:
        wait_until(lambda: counters(still, STEPS) == {"scheduled": 1})
    assert hook.outcomes == []
    assert counters(still, NOTICES) == {}


def test_observes_is_asked_at_delivery_and_false_skips(queue: Queue) -> None:
    class Picky(RecordingHook):
        asked: list[str]

        def observes(self, outcome: RunOutcome) -> bool:
            self.asked.append(outcome.run_id)
            return outcome.status is TerminalStatus.FAILED

    hook = Picky()
    hook.asked = []
    assert isinstance(hook, TerminalHook)
    runtime = WorkflowRuntime(queue, ScriptedRunner([Succeed(), Fail("f")]), hook)
    runtime.submit_many([RunSpec(run_id="a"), RunSpec(run_id="b")])
    assert hook.asked == []
    runtime.run_until_idle(PATIENCE)

    assert sorted(hook.asked) == ["a", "b"]
    assert [outcome.status for outcome in hook.outcomes] == [TerminalStatus.FAILED]
    assert counters(queue, NOTICES) == {"done": 2}


def test_observes_that_raises_counts_like_the_hook(still: Queue, clock: ManualClock) -> None:
    class Broken(RecordingHook):
        calls = 0

        def observes(self, outcome: RunOutcome) -> bool:
            self.calls += 1
            if self.calls == 1:
                raise OSError
            return True

    hook = Broken()
    runtime = WorkflowRuntime(still, echo, hook)
    runtime.submit().cancel()
    assert counters(still, NOTICES) == {"scheduled": 1}
    clock.advance(1)
    runtime.run_until_idle(PATIENCE)
    assert len(hook.outcomes) == 1


def test_a_function_is_a_hook(queue: Queue) -> None:
    outcomes: list[RunOutcome] = []
    runtime = WorkflowRuntime(queue, echo, outcomes.append)
    runtime.submit(input=b"x")
    runtime.run_until_idle(PATIENCE)

    assert [outcome.result for outcome in outcomes] == [b"x"]


@pytest.mark.parametrize("hook", [None, NoopTerminalHook()])
def test_without_a_hook_nothing_is_registered_or_stored(queue: Queue, hook: object) -> None:
    runtime = WorkflowRuntime(queue, echo, hook)  # type: ignore[arg-type]  # None or a hook
    runtime.submit()
    runtime.submit().cancel()
    runtime.run_until_idle(PATIENCE)

    assert queue.list_queues() == [STEPS]
    assert counters(queue, NOTICES) == {}


def test_making_a_runtime_writes_nothing(queue: Queue) -> None:
    WorkflowRuntime(queue, echo, RecordingHook())

    assert queue.list_queues() == []


@pytest.mark.parametrize("use", ["submit", "submit_many", "cancel", "start", "run_until_idle"])
def test_the_hook_is_registered_at_the_first_use(queue: Queue, use: str) -> None:
    """Afterwards a process without the hook that ends a run leaves a notification for one that has it."""
    client = WorkflowClient(queue)
    client.submit(run_id="before").cancel()
    assert counters(queue, NOTICES) == {}, "without a registered hook, no notification"
    waiting = client.submit(run_id="waiting")
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, echo, hook)
    if use == "submit":
        runtime.submit()
    elif use == "submit_many":
        runtime.submit_many([])
    elif use == "cancel":
        client.submit(run_id="victim")
        runtime.cancel("victim")
    elif use == "start":
        runtime.start()
        runtime.stop()
    else:
        runtime.run_until_idle(PATIENCE)
    waiting.cancel()
    client.submit(run_id="after").cancel()
    runtime.run_until_idle(PATIENCE)

    told = {outcome.run_id for outcome in hook.outcomes}
    assert "after" in told
    assert "before" not in told


def test_runs_ended_elsewhere_notify_the_process_that_has_the_hook(tmp_path: Path) -> None:
    hook = RecordingHook()
    with Queue.open(tmp_path / "s") as with_hook, Queue.open(tmp_path / "s") as without:
        runtime = WorkflowRuntime(with_hook, echo, hook)
        runtime.start()
        runtime.stop()
        plain = WorkflowRuntime(without, echo)
        plain.submit(run_id="succeeded")
        WorkflowClient(without).submit(run_id="cancelled")
        WorkflowClient(without).cancel("cancelled")
        plain.run_until_idle(PATIENCE)
        assert counters(without, NOTICES) == {"pending": 2}, "who has no hook never touches it"
        runtime.run_until_idle(PATIENCE)

    assert {(outcome.run_id, outcome.status.value) for outcome in hook.outcomes} == {
        ("succeeded", "succeeded"), ("cancelled", "cancelled"),
    }  # fmt: skip


def test_a_claim_taken_back_out_of_attempts_notifies_too(still: Queue, clock: ManualClock) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(still, echo, hook)
    handle = runtime.submit(max_attempts_per_step=1)
    assert still.claim(STEPS) is not None
    clock.advance(30)
    runtime.run_until_idle(PATIENCE)

    (outcome,) = hook.outcomes
    assert (outcome.status, outcome.run_id) == (TerminalStatus.FAILED, handle.run_id)
    assert outcome.error is not None and "out of attempts" in outcome.error


def test_a_claim_taken_back_after_a_cancel_request_notifies_as_cancelled(still: Queue, clock: ManualClock) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(still, echo, hook)
    handle = runtime.submit()
    assert still.claim(STEPS) is not None
    assert handle.cancel() is True
    clock.advance(30)
    runtime.run_until_idle(PATIENCE)

    assert [(outcome.status, outcome.error) for outcome in hook.outcomes] == [(TerminalStatus.CANCELLED, None)]


def test_a_hook_that_raises_is_retried_with_backoff_and_the_same_outcome(still: Queue, clock: ManualClock) -> None:
    told: list[RunOutcome] = []

    def hook(outcome: RunOutcome) -> None:
        told.append(outcome)
        if len(told) < 3:
            raise KeyboardInterrupt if len(told) == 1 else OSError("down")

    with WorkflowRuntime(still, echo, hook) as runtime:
        runtime.submit(input=b"x").wait(PATIENCE)
        for attempt, seconds in ((1, 1), (2, 2)):
            wait_until(lambda: counters(still, NOTICES) == {"scheduled": 1})
            assert len(told) == attempt
            clock.advance(seconds)
            wait_until(lambda attempt=attempt: len(told) > attempt)  # type: ignore[misc]
        wait_until(lambda: counters(still, NOTICES) == {"done": 1})

    assert told == [told[0]] * 3
    assert told[0].finished_at == START


def test_a_permanent_error_of_the_hook_dead_letters_the_notification(queue: Queue) -> None:
    calls: list[RunOutcome] = []

    def hook(outcome: RunOutcome) -> None:
        calls.append(outcome)
        raise StepError.permanent("no such receiver")

    runtime = WorkflowRuntime(queue, echo, hook)
    handle = runtime.submit()
    runtime.run_until_idle(PATIENCE)

    assert len(calls) == 1
    (letter,) = queue.dead_jobs(NOTICES).jobs
    assert letter.last_error == "no such receiver"
    assert handle.wait(0).status is TerminalStatus.SUCCEEDED, "the run itself is not touched"


def test_a_dead_notification_can_be_requeued_and_is_then_delivered(queue: Queue) -> None:
    broken = True
    told: list[RunOutcome] = []

    def hook(outcome: RunOutcome) -> None:
        if broken:
            raise StepError.permanent("misconfigured")
        told.append(outcome)

    runtime = WorkflowRuntime(queue, echo, hook)
    handle = runtime.submit(input=b"x")
    runtime.run_until_idle(PATIENCE)
    broken = False
    queue.requeue_dead_job(queue.dead_jobs(NOTICES).jobs[0].id)
    runtime.run_until_idle(PATIENCE)

    assert told == [handle.wait(0)]


def test_a_hook_out_of_attempts_is_dead_lettered(tmp_path: Path) -> None:
    configs = {NOTICES: QueueConfig(max_attempts=2, retry_backoff_base=0)}
    with Queue.open(tmp_path / "s", queue_configs=configs) as queue:
        calls: list[int] = []

        def hook(outcome: RunOutcome) -> None:
            calls.append(1)
            raise OSError("down")

        runtime = WorkflowRuntime(queue, echo, hook)
        runtime.submit()
        runtime.run_until_idle(PATIENCE)

        assert len(calls) == 2
        assert [job.last_error for job in queue.dead_jobs(NOTICES).jobs] == ["OSError: down"]


def test_notifications_are_not_counted_in_the_step_queues_stats(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo, RecordingHook())
    runtime.submit()
    client = WorkflowClient(queue)
    client.submit().cancel()

    assert counters(queue, STEPS) == {"pending": 1, "cancelled": 1}
    assert counters(queue, NOTICES) == {"pending": 1}
    counts = runtime.run_until_idle(PATIENCE)
    assert (counts.steps, counts.succeeded, counts.cancelled) == (1, 1, 0)
    assert counters(queue, STEPS) == {"done": 1, "cancelled": 1}
    assert [run.state.value for run in client.list_runs().runs] == ["succeeded", "cancelled"]


def test_terminations_count_up_when_a_run_is_retried(queue: Queue) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, ScriptedRunner([Fail("1"), StepError.permanent("2"), Succeed()]), hook)
    handle = runtime.submit()
    for _ in range(2):
        runtime.run_until_idle(PATIENCE)
        runtime.retry(handle.run_id)
    runtime.run_until_idle(PATIENCE)

    assert [(each.termination, each.status.value, each.error) for each in hook.outcomes] == [
        (1, "failed", "1"), (2, "failed", "2"), (3, "succeeded", None),
    ]  # fmt: skip
    assert {each.job_id for each in hook.outcomes} == {handle.first_job_id}


def test_an_undelivered_first_termination_does_not_swallow_the_second(still: Queue, clock: ManualClock) -> None:
    told: list[int] = []
    fails = True

    def hook(outcome: RunOutcome) -> None:
        if outcome.termination == 1 and fails:
            raise OSError("down")
        told.append(outcome.termination)

    runtime = WorkflowRuntime(still, ScriptedRunner([Fail("1"), Succeed()]), hook)
    with runtime:
        handle = runtime.submit()
        wait_until(lambda: counters(still, NOTICES) == {"scheduled": 1})
        runtime.retry(handle.run_id)
        wait_until(lambda: told == [2], "the second termination, before the first")
        fails = False
        clock.advance(1)
        wait_until(lambda: told == [2, 1])


def test_a_rerun_of_a_name_is_told_apart_by_its_job(queue: Queue) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, echo, hook)
    jobs = []
    for _ in range(2):
        jobs.append(runtime.submit(run_id="r", if_finished="rerun").first_job_id)
        runtime.run_until_idle(PATIENCE)

    assert [(each.job_id, each.termination) for each in hook.outcomes] == [(job, 1) for job in jobs]


def test_hooks_run_ahead_of_new_steps(queue: Queue) -> None:
    order: list[str] = []

    def runner(step: Step) -> StepOutcome:
        order.append(f"step of {step.run_id}")
        return Succeed()

    runtime = WorkflowRuntime(
        queue, runner, lambda outcome: order.append(f"hook of {outcome.run_id}"), max_concurrent_steps=1
    )
    runtime.submit_many([RunSpec(run_id="a"), RunSpec(run_id="b"), RunSpec(run_id="c")])
    runtime.run_until_idle(PATIENCE)

    assert order == [f"{what} of {run}" for run in "abc" for what in ("step", "hook")]


def test_a_hook_occupies_a_slot_of_the_pool(queue: Queue) -> None:
    inside, go = threading.Event(), threading.Event()

    def hook(outcome: RunOutcome) -> None:
        inside.set()
        await_event(go)

    gate = Gate()
    gate.go.set()
    with WorkflowRuntime(queue, gate, hook, max_concurrent_steps=1) as runtime:
        first = runtime.submit()
        await_event(inside)
        second = runtime.submit()
        with pytest.raises(TimeoutError):
            second.wait(0.2)
        assert [step.run_id for step in gate.steps] == [first.run_id]
        go.set()
        second.wait(PATIENCE)


def test_a_hook_may_submit_the_next_run(queue: Queue) -> None:
    def hook(outcome: RunOutcome) -> None:
        if outcome.run_id == "first":
            runtime.submit(run_id="second")

    runtime = WorkflowRuntime(queue, echo, hook)
    runtime.submit(run_id="first")

    assert runtime.run_until_idle(PATIENCE).succeeded == 2


def test_a_job_on_the_notification_lane_that_is_none_dead_letters_and_blocks_nothing(queue: Queue) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, echo, hook)
    foreign = queue.enqueue(NOTICES, b"whatever", headers={"workflow.run_id": "x"})
    handle = runtime.submit()
    runtime.run_until_idle(PATIENCE)

    assert [outcome.run_id for outcome in hook.outcomes] == [handle.run_id]
    (letter,) = queue.dead_jobs(NOTICES).jobs
    assert letter.id == foreign and letter.last_error is not None and "not a notification" in letter.last_error


def test_a_rolling_change_of_the_hook_keeps_what_is_undelivered(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s") as queue:
        runtime = WorkflowRuntime(queue, echo, RecordingHook())
        runtime.submit(run_id="r")
        WorkflowClient(queue).cancel("r")
    with Queue.open(tmp_path / "s") as queue:
        hook = RecordingHook()
        WorkflowRuntime(queue, echo, hook).run_until_idle(PATIENCE)

    assert [outcome.run_id for outcome in hook.outcomes] == ["r"]


def test_delivered_notifications_leave_no_rows(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo, RecordingHook())
    runtime.submit()
    runtime.run_until_idle(PATIENCE)
    settled(queue)

    assert queue.list_jobs(NOTICES).jobs == []
    assert [job.status for job in queue.list_jobs(STEPS).jobs] == [JobStatus.DONE]
