"""What a step tells other runs with its end (FEATURES 2 and 3)."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from taquba_workflow_sync import (
    Continue,
    ContinueOnSignal,
    Effects,
    EffectsSealedError,
    InvalidRunIdError,
    PayloadTooLargeError,
    Queue,
    RunNotFoundError,
    RunOutcome,
    RunSpec,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.storage.port import signals as rules
from tests.queue.support import PATIENCE

from .support import ended


def waits_or_sends(step: Step) -> StepOutcome:
    """A run "waits" that ends with what it is told, and others that tell it their payload."""
    if step.run_id != "waits":
        step.effects.signal("waits", "go", step.payload)
        return Succeed()
    if step.signal is None:
        return ContinueOnSignal(b"", "go")
    return Succeed(step.signal.payload)


def dropped(client: WorkflowClient, run_id: str) -> list[str]:
    return [event.detail or "" for event in client.history(run_id) if event.kind == "signal_dropped"]


def test_a_step_wakes_another_run_with_its_end(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, waits_or_sends)
    runtime.submit(run_id="waits")
    runtime.run_until_idle(PATIENCE)
    runtime.submit(run_id="sends", input=b"told")
    runtime.run_until_idle(PATIENCE)
    assert ended(runtime, "waits").result == b"told" and dropped(runtime, "sends") == []


def test_an_attempt_that_fails_sends_nothing(queue: Queue) -> None:
    def run_step(step: Step) -> StepOutcome:
        if step.run_id == "waits":
            return waits_or_sends(step)
        step.effects.signal("waits", "go", b"%d" % step.attempts)
        if step.attempts == 1:
            raise StepError.transient("again")
        return Succeed()

    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit(run_id="waits")
    runtime.submit(run_id="sends")
    runtime.run_until_idle(PATIENCE)
    assert ended(runtime, "waits").result == b"2"


def test_a_signal_for_nobody_is_dropped_and_noted_in_the_history_of_the_sender(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, waits_or_sends)
    runtime.submit(run_id="sends", input=b"told")
    runtime.run_until_idle(PATIENCE)
    assert ended(runtime, "sends").status is TerminalStatus.SUCCEEDED
    (why,) = dropped(runtime, "sends")
    assert "'go'" in why and "'waits'" in why


def test_a_full_buffer_fails_the_attempt(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, waits_or_sends)
    other = WorkflowClient(queue, queue_name="elsewhere")
    other.submit(run_id="waits")
    for _ in range(rules.MOST_BUFFERED):
        other.signal("waits", "noise")

    def run_step(step: Step) -> StepOutcome:
        if step.attempts == 2:
            other.clear_signals("waits", "noise")
        step.effects.signal("waits", "go", queue_name="elsewhere")
        return Succeed()

    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit(run_id="sends")
    runtime.run_until_idle(PATIENCE)
    assert ended(runtime, "sends").status is TerminalStatus.SUCCEEDED
    first, _ = queue.attempt_history(ended(runtime, "sends").job_id)
    assert first.error is not None and "SignalBufferFullError" in first.error
    assert [each.name for each in other.signals("waits")] == ["go"]


def test_a_step_submits_a_run_and_sends_it_a_signal(queue: Queue) -> None:
    def run_step(step: Step) -> StepOutcome:
        if step.run_id == "waits":
            return waits_or_sends(step)
        step.effects.signal(step.effects.submit(RunSpec(run_id="waits")), "go", b"first word")
        return Succeed()

    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit(run_id="parent")
    runtime.run_until_idle(PATIENCE)
    assert ended(runtime, "waits").result == b"first word"


def test_a_step_that_goes_on_hears_what_it_sent_to_itself(queue: Queue) -> None:
    def run_step(step: Step) -> StepOutcome:
        if step.step_number == 0:
            step.effects.signal(step.run_id, "go", b"note")
            return Continue()
        return waits_or_sends(step)

    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit(run_id="waits")
    runtime.run_until_idle(PATIENCE)
    assert ended(runtime, "waits").result == b"note"


def test_a_hook_sends_a_signal(queue: Queue) -> None:
    def hook(outcome: RunOutcome, effects: Effects) -> None:
        if outcome.run_id == "child":
            effects.signal("waits", "go", b"child has ended")

    runtime = WorkflowRuntime(queue, lambda s: waits_or_sends(s) if s.run_id == "waits" else Succeed(), hook)
    runtime.submit_many([RunSpec(run_id="waits"), RunSpec(run_id="child")])
    runtime.run_until_idle(PATIENCE)
    assert ended(runtime, "waits").result == b"child has ended"


def test_a_hooks_signal_for_nobody_is_dropped_and_logged(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    def hook(outcome: RunOutcome, effects: Effects) -> None:
        effects.signal("nobody", "go")

    runtime = WorkflowRuntime(queue, lambda step: Succeed(), hook)
    runtime.submit(run_id="r")
    with caplog.at_level(logging.WARNING):
        runtime.run_until_idle(PATIENCE)
    assert any("'nobody'" in record.getMessage() for record in caplog.records)


def test_a_program_is_told_that_nobody_listens(queue: Queue) -> None:
    client = WorkflowClient(queue)
    effects = Effects()
    effects.put("key", b"value")
    effects.signal("nobody", "go")
    with pytest.raises(RunNotFoundError):
        queue.commit(effects)
    with pytest.raises(RunNotFoundError):
        client.submit(RunSpec(effects=effects))
    assert queue.kv.get("key") is None and client.list_runs().runs == []


def test_a_submission_may_send_a_signal_to_its_own_run(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, waits_or_sends)
    effects = Effects()
    effects.signal("waits", "go", b"from the start")
    runtime.submit(RunSpec(run_id="waits", effects=effects))
    runtime.run_until_idle(PATIENCE)
    assert ended(runtime, "waits").result == b"from the start"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("", "go"), InvalidRunIdError),
        (("r", ""), ValueError),
        (("r", "go", "text"), TypeError),
        (("r", "go", bytes(rules.MOST_PAYLOAD + 1)), PayloadTooLargeError),
    ],
)
def test_a_wrong_argument_is_refused_at_the_call(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    effects = Effects()
    with pytest.raises(error):
        effects.signal(*arguments)


def test_nothing_is_sent_after_the_runner_has_returned(queue: Queue) -> None:
    kept: list[Step] = []

    def run_step(step: Step) -> StepOutcome:
        kept.append(step)
        assert step.effects is not None
        return Succeed()

    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    with pytest.raises(EffectsSealedError):
        kept[0].effects.signal("r", "go")
