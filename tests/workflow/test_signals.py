"""Signals: a run waits for the world, as a row (FEATURES 3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taquba_workflow_sync import (
    Cancel,
    Continue,
    ContinueAfter,
    ContinueOnSignal,
    EffectConflictError,
    Effects,
    Fail,
    IfFinished,
    InputMismatchError,
    InvalidRunIdError,
    InvalidStateError,
    PayloadTooLargeError,
    Queue,
    RunNotFoundError,
    RunSpec,
    RunState,
    Signal,
    SignalBufferFullError,
    SignalOutcome,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.storage.port import memo as memo_rules
from taquba_workflow_sync.storage.port import signals as rules
from taquba_workflow_sync.testing import ManualClock, RecordingHook
from tests.queue.support import PATIENCE, START
from tests.support import await_event, wait_until

from .support import Gate, ended, state

DELIVERED, BUFFERED, DUPLICATE = SignalOutcome
MINUTE = timedelta(minutes=1)


class Approval:
    """Waits for a signal called ``name``, keeps what each attempt of the next step saw, and ends as told."""

    def __init__(self, *ends: object, name: str = "approved", timeout: Any = None) -> None:
        self.ends = [*ends, Succeed(b"done")]
        self.wait = ContinueOnSignal(b"order", name, timeout)
        self.seen: list[tuple[int, bytes | None, bool]] = []

    def run_step(self, step: Step) -> StepOutcome:
        if step.step_number == 0:
            assert (step.signal, step.wait_timed_out) == (None, False)
            return self.wait
        self.seen.append((step.step_number, None if step.signal is None else step.signal.payload, step.wait_timed_out))
        end = self.ends.pop(0)
        if isinstance(end, BaseException):
            raise end
        assert isinstance(end, StepOutcome)
        return end


def waiting(queue: Queue, runner: object, run_id: str = "r", **fields: Any) -> WorkflowRuntime:
    """A runtime that has brought a run to its first wait."""
    runtime = WorkflowRuntime(queue, runner)  # type: ignore[arg-type]
    runtime.submit(run_id=run_id, **fields)
    runtime.run_until_idle(PATIENCE)
    return runtime


def waits_for(client: WorkflowClient, run_id: str = "r") -> str | None:
    status = client.status(run_id)
    assert status is not None
    return status.waiting_for


# A run waits


def test_a_signal_reaches_the_step_that_was_waited_with(still: Queue, clock: ManualClock) -> None:
    seen: list[tuple[bytes, Signal | None, bool]] = []

    def run_step(step: Step) -> StepOutcome:
        if step.step_number == 0:
            return ContinueOnSignal(b"order", "approved")
        seen.append((step.payload, step.signal, step.wait_timed_out))
        return Succeed()

    runtime = waiting(still, run_step)
    assert (state(runtime, "r"), waits_for(runtime)) == (RunState.PENDING, "signal:approved")
    clock.advance(5)
    assert runtime.signal("r", "approved", b"by Ada", signal_id="mail-7") is DELIVERED
    assert waits_for(runtime) is None
    clock.advance(5)
    runtime.run_until_idle(PATIENCE)
    signal = Signal("approved", b"by Ada", START + timedelta(seconds=5), "mail-7")
    assert seen == [(b"order", signal, False)]
    assert signal.sent_at.tzinfo is UTC
    assert ended(runtime, "r").status is TerminalStatus.SUCCEEDED


def test_a_signal_wakes_a_run_of_a_runtime_that_sleeps(queue: Queue) -> None:
    with Queue.open(queue.path, durability="relaxed") as elsewhere:
        with WorkflowRuntime(queue, Approval()) as runtime:
            handle = runtime.submit(run_id="r")
            wait_until(lambda: waits_for(runtime) == "signal:approved")
            assert WorkflowClient(elsewhere).signal("r", "approved") is DELIVERED
            assert handle.result(PATIENCE) == b"done"


def test_a_run_that_waits_takes_no_thread_and_leaves_the_runtime_idle(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, Approval(), max_concurrent_steps=1)
    for number in range(20):
        runtime.submit(run_id=f"r{number}")
    counts = runtime.run_until_idle(PATIENCE, wait_for_scheduled=3600)
    assert (counts.steps, counts.scheduled) == (20, 20)
    assert [run.waiting_for for run in runtime.list_runs(RunState.PENDING).runs] == ["signal:approved"] * 20


def test_a_wait_survives_a_restart(queue: Queue) -> None:
    waiting(queue, Approval())
    runner = Approval()
    with Queue.open(queue.path, durability="relaxed") as again:
        runtime = WorkflowRuntime(again, runner)
        assert waits_for(runtime) == "signal:approved"
        runtime.signal("r", "approved", b"yes")
        runtime.run_until_idle(PATIENCE)
    assert runner.seen == [(1, b"yes", False)]


def test_when_the_timeout_comes_first_the_step_is_told(still: Queue, clock: ManualClock) -> None:
    runner = Approval(timeout=MINUTE)
    runtime = waiting(still, runner)
    assert waits_for(runtime) == "signal:approved"
    clock.advance(61)
    runtime.run_until_idle(PATIENCE)
    assert runner.seen == [(1, None, True)]
    assert ended(runtime, "r").result == b"done"


def test_until_the_claim_a_signal_beats_a_passed_timeout(still: Queue, clock: ManualClock) -> None:
    runner = Approval(timeout=60)
    runtime = waiting(still, runner)
    clock.advance(3600)
    assert runtime.signal("r", "approved", b"late") is DELIVERED
    runtime.run_until_idle(PATIENCE)
    assert runner.seen == [(1, b"late", False)]


def test_a_timeout_of_zero_polls_the_buffer(queue: Queue) -> None:
    def run_step(step: Step) -> StepOutcome:
        if step.step_number == 0:
            return ContinueOnSignal(b"", "news", timeout=0)
        if step.signal is None:
            assert step.wait_timed_out
            runtime.signal("r", "news", b"fresh")
            return ContinueOnSignal(b"", "news", 0)
        return Succeed(step.signal.payload)

    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit(run_id="r")
    assert runtime.run_until_idle(PATIENCE).steps == 3
    assert ended(runtime, "r").result == b"fresh"


def test_what_is_buffered_is_taken_at_once(queue: Queue) -> None:
    runner = Approval()
    runtime = WorkflowRuntime(queue, runner)
    runtime.submit(run_id="r")
    assert runtime.signal("r", "approved", b"early") is BUFFERED
    assert runtime.run_until_idle(PATIENCE).steps == 2
    assert runner.seen == [(1, b"early", False)]


def test_signals_come_first_in_first_out_for_each_name(queue: Queue) -> None:
    names = ["a", "b", "a"]
    received: list[bytes] = []

    def run_step(step: Step) -> StepOutcome:
        if step.signal is not None:
            received.append(step.signal.payload)
        return ContinueOnSignal(b"", names.pop(0)) if names else Succeed()

    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit(run_id="r")
    for name, payload in (("a", b"1"), ("a", b"2"), ("b", b"3")):
        runtime.signal("r", name, payload)
    runtime.run_until_idle(PATIENCE)
    assert received == [b"1", b"3", b"2"]


def test_delivered_means_waits_for_that_name_unclaimed_with_none_of_it_buffered(queue: Queue) -> None:
    gate = Gate(then=lambda step: ContinueOnSignal(b"", "go") if step.step_number == 0 else Succeed())
    with WorkflowRuntime(queue, gate) as runtime:
        runtime.submit(run_id="r")
        await_event(gate.started)
        assert runtime.signal("r", "stop") is BUFFERED, "the step runs"
        gate.started.clear()
        gate.go.set()
        wait_until(lambda: waits_for(runtime) == "signal:go")
        gate.go.clear()
        assert runtime.signal("r", "stop") is BUFFERED, "it waits for another name"
        assert runtime.signal("r", "go", b"1") is DELIVERED
        await_event(gate.started)
        assert runtime.signal("r", "go", b"2") is BUFFERED, "it was received"
        gate.go.set()
        ended(runtime, "r")


# Every attempt sees the same


@pytest.mark.parametrize("is_timeout", [False, True])
@pytest.mark.parametrize(
    "end", [StepError.transient("again"), StepError.permanent("broken"), Fail("no")], ids=["retry", "dead", "fail"]
)
def test_a_retry_sees_exactly_the_same(still: Queue, clock: ManualClock, end: object, is_timeout: bool) -> None:
    runner = Approval(end, timeout=MINUTE)
    runtime = waiting(still, runner)
    if is_timeout:
        clock.advance(60)
    else:
        runtime.signal("r", "approved", b"1")
        runtime.signal("r", "approved", b"2")
    with runtime:  # not until it is idle, which is after the backoff
        wait_until(lambda: runner.seen and state(runtime, "r") is not RunState.RUNNING)
    assert len(runner.seen) == 1
    if state(runtime, "r") is RunState.FAILED:
        assert [signal.payload for signal in runtime.signals("r")] == ([] if is_timeout else [b"1", b"2"])
        runtime.retry("r")
    else:
        assert waits_for(runtime) == "time", "that is the backoff of a step whose wait is over"
        assert runtime.signal("r", "approved", b"3") is BUFFERED
        clock.advance(10)
    runtime.run_until_idle(PATIENCE)
    assert runner.seen == [(1, None if is_timeout else b"1", is_timeout)] * 2
    assert ended(runtime, "r").status is TerminalStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("end", "left"),
    [
        (Continue(b""), [b"2"]),
        (ContinueAfter(b"", 3600), [b"2"]),
        (Succeed(), [b"2"]),
        (Cancel("no"), [b"2"]),
        (Fail("no"), [b"1", b"2"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_signal_is_used_up_by_a_step_that_ends_well(queue: Queue, end: StepOutcome, left: list[bytes]) -> None:
    runner = Approval(end)
    runtime = waiting(queue, runner)
    runtime.signal("r", "approved", b"1")
    runtime.signal("r", "approved", b"2")
    assert [signal.payload for signal in runtime.signals("r")] == [b"1", b"2"]
    runtime.run_until_idle(PATIENCE)
    assert [signal.payload for signal in runtime.signals("r")] == left


def test_a_step_after_the_next_one_has_no_signal(queue: Queue) -> None:
    runner = Approval(Continue(b""), Continue(b""))
    runtime = waiting(queue, runner)
    runtime.signal("r", "approved", b"1")
    runtime.run_until_idle(PATIENCE)
    assert runner.seen == [(1, b"1", False), (2, None, False), (3, None, False)]


def test_a_cancelled_step_has_used_its_signal_up(queue: Queue) -> None:
    gate = Gate(then=lambda step: Succeed())
    runtime = waiting(queue, lambda step: ContinueOnSignal(b"", "go"))
    runtime.signal("r", "go", b"1")
    with WorkflowRuntime(queue, gate) as running:
        await_event(gate.started)
        assert [signal.payload for signal in running.signals("r")] == [b"1"]
        running.cancel("r")
        gate.go.set()
        assert ended(running, "r").status is TerminalStatus.CANCELLED
    assert runtime.signals("r") == []


def test_a_run_that_waits_is_cancelled_at_once_and_its_hook_is_told(queue: Queue) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, Approval(), hook)
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    assert runtime.cancel("r")
    assert [(outcome.run_id, outcome.status) for outcome in hook.outcomes] == [("r", TerminalStatus.CANCELLED)]


# Sending


def test_a_repeated_id_is_a_duplicate_also_after_the_end(queue: Queue) -> None:
    runner = Approval()
    runtime = waiting(queue, runner)
    assert runtime.signal("r", "approved", b"1", signal_id="x") is DELIVERED
    assert runtime.signal("r", "approved", b"1", signal_id="x") is DUPLICATE
    runtime.run_until_idle(PATIENCE)
    assert runtime.signal("r", "approved", b"1", signal_id="x") is DUPLICATE
    assert runner.seen == [(1, b"1", False)]


def test_the_last_ten_thousand_ids_are_remembered(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rules.MOST_IDS == 10_000
    monkeypatch.setattr(rules, "MOST_IDS", 2)
    client = WorkflowClient(queue)
    client.submit(run_id="r")
    answers = [client.signal("r", "a", signal_id=each) for each in ("1", "2", "3", "3", "2", "1")]
    assert answers == [BUFFERED, BUFFERED, BUFFERED, DUPLICATE, DUPLICATE, BUFFERED]


def test_a_run_that_is_not_there_is_submitted_with_the_signal(queue: Queue) -> None:
    runner = Approval()
    runtime = WorkflowRuntime(queue, runner)
    spec = RunSpec(input=b"order", headers={"who": "Ada"})
    assert runtime.signal("r", "approved", b"1", signal_id="x", submit=spec) is BUFFERED
    assert runtime.signal("r", "approved", b"1", signal_id="x", submit=spec) is DUPLICATE
    assert runtime.signal("r", "approved", b"2", submit=RunSpec(input=b"order", run_id="r")) is BUFFERED
    status = runtime.status("r")
    assert status is not None and status.headers == {"who": "Ada"}
    assert runtime.run_until_idle(PATIENCE).steps == 2
    assert runner.seen == [(1, b"1", False)]


def test_the_effects_of_a_submit_are_applied_with_the_signal_that_brings_the_run_and_by_no_other(queue: Queue) -> None:
    effects = Effects()
    effects.compare_put("seat", None, b"r")
    effects.add("bookings", 1)
    booking = RunSpec(input=b"order", effects=effects)
    runtime = WorkflowRuntime(queue, Approval())
    assert runtime.signal("r", "approved", b"1", submit=booking) is BUFFERED
    assert runtime.signal("r", "approved", b"2", submit=booking) is BUFFERED, "the run is there: nothing is expected"
    assert (queue.kv.get("seat"), queue.kv.get("bookings")) == (b"r", b"1")
    with pytest.raises(EffectConflictError, match="'seat' was expected to hold nothing"):
        runtime.signal("other", "approved", submit=booking)
    assert runtime.status("other") is None and queue.kv.get("bookings") == b"1"


def test_a_known_id_submits_nothing(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, Approval())
    again = RunSpec(if_finished=IfFinished.RERUN)
    runtime.signal("r", "approved", signal_id="x", submit=again)
    runtime.run_until_idle(PATIENCE)
    assert runtime.signal("r", "approved", signal_id="x", submit=again) is DUPLICATE
    assert state(runtime, "r") is RunState.SUCCEEDED
    assert runtime.signal("r", "approved", signal_id="y", submit=again) is BUFFERED
    assert state(runtime, "r") is RunState.PENDING


def test_a_submit_is_refused_as_it_would_be_alone(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, Approval())
    runtime.submit(run_id="r", input=b"one")
    with pytest.raises(InputMismatchError):
        runtime.signal("r", "approved", submit=RunSpec(input=b"two"))
    assert runtime.signals("r") == []
    runtime.signal("r", "approved")
    runtime.run_until_idle(PATIENCE)
    with pytest.raises(InputMismatchError):
        runtime.signal("r", "approved", submit=RunSpec(input=b"two"))
    with pytest.raises(InvalidStateError):
        runtime.signal("r", "approved", submit=RunSpec(input=b"one"))


def test_a_run_submitted_with_a_signal_tells_its_hook(queue: Queue) -> None:
    hook = RecordingHook()
    WorkflowRuntime(queue, Approval(), hook).signal("r", "approved", submit=RunSpec())
    WorkflowRuntime(queue, Approval(), hook).run_until_idle(PATIENCE)
    assert [outcome.run_id for outcome in hook.outcomes] == ["r"]


def test_a_submit_of_another_name_is_refused(queue: Queue) -> None:
    client = WorkflowClient(queue)
    with pytest.raises(ValueError, match="submit names the run 'other'"):
        client.signal("r", "go", submit=RunSpec(run_id="other"))
    with pytest.raises(TypeError, match="submit must be a RunSpec"):
        client.signal("r", "go", submit={"input": b""})  # type: ignore[arg-type]
    assert client.list_runs().runs == []


def test_signals_are_bound_to_the_row_and_never_to_the_name(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, lambda step: Succeed())
    runtime.submit(run_id="r")
    runtime.signal("r", "go", b"for the first")
    runtime.run_until_idle(PATIENCE)
    assert [signal.payload for signal in runtime.signals("r")] == [b"for the first"], "unread ones stay"
    runtime.submit(run_id="r", if_finished="rerun")
    assert runtime.signals("r") == []


def test_nobody_and_nobody_any_more_gets_no_signal(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, lambda step: Succeed())
    with pytest.raises(RunNotFoundError, match="has no run 'nobody'"):
        runtime.signal("nobody", "go")
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    with pytest.raises(InvalidStateError, match="has ended"):
        runtime.signal("r", "go")
    for call in (runtime.signals, lambda run_id: runtime.clear_signals(run_id, "go")):
        with pytest.raises(RunNotFoundError):
            call("nobody")
    gone = WorkflowRuntime(queue, lambda step: Succeed(), keep_runs=None)
    gone.submit(run_id="gone")
    gone.run_until_idle(PATIENCE)
    with pytest.raises(RunNotFoundError):
        gone.signal("gone", "go")


def test_unread_signals_stay_until_the_row_is_swept(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, lambda step: Succeed(), keep_runs=3600)
    job_id = runtime.submit(run_id="r").first_job_id
    runtime.signal("r", "go", signal_id="x")
    runtime.run_until_idle(PATIENCE)
    clock.advance(3599)
    assert len(runtime.signals("r")) == 1
    clock.advance(2)
    with pytest.raises(RunNotFoundError):
        runtime.signals("r")
    while still.handle.store.sweep():
        pass
    assert still.handle.store.signals(job_id) == []


# Bounds


def test_a_thousand_signals_are_buffered_and_one_more_is_refused(queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="r")
    for number in range(1000):
        assert client.signal("r", "go", b"%d" % number) is BUFFERED
    with pytest.raises(SignalBufferFullError, match="1000 signals are buffered") as refused:
        client.signal("r", "another", signal_id="x")
    assert not refused.value.is_permanent, "it may be sent again later"
    assert client.clear_signals("r", "go") == 1000
    assert client.signal("r", "another", signal_id="x") is BUFFERED, "what was refused is not remembered"


def test_a_full_buffer_refuses_nothing_that_its_run_waits_for(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_BUFFERED", 1)
    runner = Approval()
    runtime = waiting(queue, runner)
    runtime.signal("r", "noise")
    with pytest.raises(SignalBufferFullError):
        runtime.signal("r", "noise")
    assert runtime.signal("r", "approved", b"1") is DELIVERED
    runtime.run_until_idle(PATIENCE)
    assert runner.seen == [(1, b"1", False)]


def test_buffered_signals_and_memos_share_their_bytes(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo_rules, "MOST_BYTES", 10)

    def run_step(step: Step) -> StepOutcome:
        step.run_memo.put("1", b"23456")
        return Succeed()

    runtime = WorkflowRuntime(queue, run_step)
    runtime.submit(run_id="r")
    runtime.signal("r", "go", b"234")
    runtime.run_until_idle(PATIENCE)
    assert "MemoFullError" in str(ended(runtime, "r").error)
    runtime.submit(run_id="other")
    with pytest.raises(SignalBufferFullError, match="10 that a run's memos and buffered signals"):
        runtime.signal("other", "go", b"123456789")


def test_a_payload_has_256_kib_at_most(queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="r")
    client.signal("r", "go", b"x" * 2**18)
    with pytest.raises(PayloadTooLargeError, match="payload has 262145 bytes, the limit is 262144"):
        client.signal("r", "go", b"x" * (2**18 + 1))
    assert [len(signal.payload) for signal in client.signals("r")] == [2**18]


# Looking, clearing, waking


def test_signals_are_listed_the_oldest_first(still: Queue, clock: ManualClock) -> None:
    client = WorkflowClient(still)
    client.submit(run_id="r")
    for number, name in enumerate(("b", "a", "b")):
        client.signal("r", name, b"%d" % number, signal_id=None if number else "first")
        clock.advance(1)
    assert client.signals("r") == [
        Signal("b", b"0", START, "first"),
        Signal("a", b"1", START + timedelta(seconds=1), None),
        Signal("b", b"2", START + timedelta(seconds=2), None),
    ]


def test_clearing_spares_what_the_step_has_received(queue: Queue) -> None:
    gate = Gate()
    runtime = waiting(queue, lambda step: ContinueOnSignal(b"", "go"))
    for payload in (b"1", b"2", b"3"):
        runtime.signal("r", "go", payload)
    runtime.signal("r", "stop", b"4")
    with WorkflowRuntime(queue, gate) as running:
        await_event(gate.started)
        assert running.clear_signals("r", "go") == 2
        assert [signal.payload for signal in running.signals("r")] == [b"1", b"4"]
        assert running.clear_signals("r", "go") == 0
        gate.go.set()
        ended(running, "r")
    assert gate.steps[0].signal is not None and gate.steps[0].signal.payload == b"1"


@pytest.mark.parametrize("how", ["delay", "run_at", "backoff"])
def test_a_run_that_waits_for_time_is_woken(still: Queue, clock: ManualClock, how: str) -> None:
    outcomes: list[object] = {"delay": [ContinueAfter(b"", MINUTE)], "backoff": [RuntimeError("again")]}.get(how, [])  # type: ignore[assignment]

    def run_step(step: Step) -> StepOutcome:
        outcome = outcomes.pop(0) if outcomes else Succeed()
        if isinstance(outcome, BaseException):
            raise outcome
        assert isinstance(outcome, StepOutcome)
        return outcome

    runtime = WorkflowRuntime(still, run_step)
    runtime.submit(run_id="r", run_at=clock.now() + MINUTE if how == "run_at" else None)
    if how == "backoff":
        runtime.start()
        wait_until(lambda: waits_for(runtime) == "time")
        runtime.stop()
    else:
        runtime.run_until_idle(PATIENCE)
    assert waits_for(runtime) == "time"
    assert WorkflowClient(still).wake("r") is True
    assert (waits_for(runtime), WorkflowClient(still).wake("r")) == (None, False)
    WorkflowRuntime(still, run_step).run_until_idle(PATIENCE)
    assert state(runtime, "r") is RunState.SUCCEEDED


def test_a_run_that_waits_for_no_time_is_not_woken(queue: Queue) -> None:
    runtime = waiting(queue, Approval(timeout=3600))
    assert runtime.wake("r") is False
    assert waits_for(runtime) == "signal:approved"
    runtime.signal("r", "approved")
    assert runtime.wake("r") is False, "it is in line"
    runtime.run_until_idle(PATIENCE)
    assert runtime.wake("r") is False, "it has ended"
    assert runtime.wake("nobody") is False


def test_a_run_in_line_or_running_or_ended_waits_for_nothing(queue: Queue) -> None:
    gate = Gate()
    with WorkflowRuntime(queue, gate) as runtime:
        runtime.submit(run_id="r")
        await_event(gate.started)
        assert waits_for(runtime) is None
        gate.go.set()
        ended(runtime, "r")
    assert waits_for(runtime) is None
    runtime.submit(run_id="in-line")
    assert waits_for(runtime, "in-line") is None


def test_run_until_idle_leaves_a_run_that_waits_for_its_timeout(queue: Queue) -> None:
    runtime = waiting(queue, Approval(timeout=3600))
    assert runtime.run_until_idle(PATIENCE).scheduled == 1
    quick = Approval(timeout=0.05)
    runtime = WorkflowRuntime(queue, quick)
    runtime.submit(run_id="quick")
    runtime.run_until_idle(PATIENCE, wait_for_scheduled=60)
    assert quick.seen == [(1, None, True)]


# What is wrong is said before anything is written


@pytest.mark.parametrize(
    ("make", "expected", "match"),
    [
        (lambda: ContinueOnSignal("text", "go"), TypeError, "payload must be bytes"),  # type: ignore[arg-type]
        (lambda: ContinueOnSignal(b"", 5), TypeError, "signal must be a str"),  # type: ignore[arg-type]
        (lambda: ContinueOnSignal(b"", ""), ValueError, "signal '' has 0 bytes"),
        (lambda: ContinueOnSignal(b"", "x" * 513), ValueError, "1 to 512"),
        (lambda: ContinueOnSignal(b"", "a\0"), ValueError, "U\\+0000"),
        (lambda: ContinueOnSignal(b"", "\ud800"), ValueError, "lone surrogates"),
        (lambda: ContinueOnSignal(b"", "go", "1"), TypeError, "timeout must be seconds"),  # type: ignore[arg-type]
        (lambda: ContinueOnSignal(b"", "go", -1), ValueError, "timeout is -1"),
        (lambda: ContinueOnSignal(b"", "go", float("inf")), ValueError, "finite"),
    ],
)
def test_a_senseless_wait_is_refused_when_it_is_made(make: Any, expected: type[Exception], match: str) -> None:
    with pytest.raises(expected, match=match):
        make()


def test_a_wait_of_wrong_types_is_permanent_in_a_step(queue: Queue) -> None:
    runtime = waiting(queue, lambda step: ContinueOnSignal(b"", 5))  # type: ignore[arg-type]
    assert ended(runtime, "r").error == "TypeError: signal must be a str, not int"
    status = runtime.status("r")
    assert status is not None and status.attempts == 1


def test_a_payload_over_the_limit_is_permanent(tmp_path: Any) -> None:
    with Queue.open(tmp_path / "small", durability="relaxed", max_payload_bytes=10) as queue:
        runtime = waiting(queue, lambda step: ContinueOnSignal(b"x" * 11, "go"))
        assert "PayloadTooLargeError" in str(ended(runtime, "r").error)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"run_id": "not/an/id"}, InvalidRunIdError),
        ({"run_id": 5}, TypeError),
        ({"name": ""}, ValueError),
        ({"name": 5}, TypeError),
        ({"name": "x" * 513}, ValueError),
        ({"payload": "text"}, TypeError),
        ({"payload": None}, TypeError),
        ({"signal_id": ""}, ValueError),
        ({"signal_id": 5}, TypeError),
        ({"signal_id": "a\0"}, ValueError),
        ({"submit": 5}, TypeError),
    ],
)
def test_a_senseless_signal_is_refused(queue: Queue, arguments: dict[str, Any], expected: type[Exception]) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="r")
    with pytest.raises(expected):
        client.signal(**({"run_id": "r", "name": "go"} | arguments))
    assert client.signals("r") == []


def test_a_senseless_name_is_refused_by_clearing(queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="r")
    with pytest.raises(ValueError, match="name"):
        client.clear_signals("r", "")
    with pytest.raises(InvalidRunIdError):
        client.wake("not/an/id")


def test_a_bare_queue_needs_no_runner_to_see_why_a_run_waits(still: Queue, clock: ManualClock) -> None:
    client = WorkflowClient(still)
    client.submit(run_id="r", run_at=datetime(2100, 1, 1, tzinfo=UTC))
    assert waits_for(client) == "time"
    assert [run.waiting_for for run in client.list_runs().runs] == ["time"]


def test_a_signal_is_delivered_in_the_midst_of_many_runs(queue: Queue) -> None:
    def run_step(step: Step) -> StepOutcome:
        return ContinueOnSignal(b"", "approved") if step.signal is None else Succeed(step.signal.payload)

    with WorkflowRuntime(queue, run_step) as runtime:
        handles = [runtime.submit(run_id=f"r{number}") for number in range(50)]
        for number in range(50):
            runtime.signal(f"r{number}", "approved", b"%d" % number)
        assert [handle.result(PATIENCE) for handle in handles] == [b"%d" % number for number in range(50)]
