"""What a step may return or raise, and what becomes of the run (DESIGN 6.3, 6.4)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import (
    AttemptOutcome,
    Cancel,
    CancelRequestedError,
    Continue,
    ContinueAfter,
    Fail,
    JobStatus,
    Queue,
    QueueConfig,
    RunFailedError,
    RunState,
    Step,
    StepError,
    StepErrorKind,
    StepOutcome,
    StorageError,
    Succeed,
    TaqubaError,
    TerminalStatus,
    WorkflowRuntime,
)
from taquba_workflow_sync.testing import ManualClock, ScriptedRunner
from tests.queue.support import PATIENCE, START, counters, stored
from tests.stable_ids import stable_id

from .support import STEPS, ended, state, wait_until


def run_script(queue: Queue, *script: Any, **fields: Any) -> tuple[WorkflowRuntime, ScriptedRunner, str]:
    """Run one run through a script to its end."""
    runner = ScriptedRunner(script)
    runtime = WorkflowRuntime(queue, runner)
    handle = runtime.submit(**fields)
    runtime.run_until_idle(PATIENCE)
    return runtime, runner, handle.run_id


def test_succeed_ends_the_run_with_its_result(queue: Queue) -> None:
    runtime, runner, run_id = run_script(queue, Succeed(b"result"), input=b"input", headers={"h": "1"})

    outcome = ended(runtime, run_id)
    assert (outcome.status, outcome.result, outcome.error) == (TerminalStatus.SUCCEEDED, b"result", None)
    assert (outcome.run_id, outcome.headers, outcome.final_step, outcome.termination) == (run_id, {"h": "1"}, 0, 1)
    assert runner.steps[0].payload == b"input"
    assert state(runtime, run_id) is RunState.SUCCEEDED


def test_continue_hands_its_payload_to_the_next_step_and_inherits_the_rest(queue: Queue) -> None:
    runtime, runner, run_id = run_script(
        queue, Continue(b"1"), Continue(), Continue(b"x" * 5000), Succeed(b"end"),
        input=b"0", headers={"h": "1"}, priority=7, max_attempts_per_step=4,
    )  # fmt: skip

    assert [step.payload for step in runner.steps] == [b"0", b"1", b"", b"x" * 5000]
    assert [step.step_number for step in runner.steps] == [0, 1, 2, 3]
    assert {step.run_id for step in runner.steps} == {run_id}
    assert all((step.headers, step.attempts, step.max_attempts) == ({"h": "1"}, 1, 4) for step in runner.steps)
    assert len({step.job_id for step in runner.steps}) == 1, "a run is one job"
    assert stored(queue, runner.steps[0].job_id).priority == 7
    assert ended(runtime, run_id).final_step == 3


@pytest.mark.parametrize("delay", [90, 90.0, timedelta(seconds=90)])
def test_continue_after_schedules_to_the_millisecond(still: Queue, clock: ManualClock, delay: Any) -> None:
    runtime, runner, run_id = run_script(still, ContinueAfter(b"1", delay), Succeed())

    job = stored(still, runner.steps[0].job_id)
    assert (job.status, job.step, job.run_at) == (JobStatus.SCHEDULED, 1, START + timedelta(seconds=90))
    assert state(runtime, run_id) is RunState.PENDING
    clock.advance(89.999)
    runtime.run_until_idle(PATIENCE)
    assert len(runner.steps) == 1
    clock.advance(0.001)
    runtime.run_until_idle(PATIENCE)
    assert [step.payload for step in runner.steps] == [b"", b"1"]


def test_continue_after_nothing_is_continue(still: Queue) -> None:
    runtime, _, run_id = run_script(still, ContinueAfter(b"", 0), Succeed(b"end"))

    assert ended(runtime, run_id).result == b"end"


@pytest.mark.parametrize(
    ("outcome", "expected", "status"),
    [
        (Fail("the reason"), RunState.FAILED, JobStatus.DONE),
        (Cancel("the reason"), RunState.CANCELLED, JobStatus.CANCELLED),
    ],
)
def test_fail_and_cancel_are_verdicts_not_dead_letters(
    queue: Queue, outcome: StepOutcome, expected: RunState, status: JobStatus
) -> None:
    runtime, runner, run_id = run_script(queue, outcome, max_attempts_per_step=5)

    assert state(runtime, run_id) is expected
    assert (ended(runtime, run_id).error, ended(runtime, run_id).result) == ("the reason", None)
    assert stored(queue, runner.steps[0].job_id).status is status
    assert queue.dead_jobs(STEPS).jobs == []
    assert len(runner.steps) == 1


def test_a_permanent_error_dead_letters_at_once(queue: Queue) -> None:
    runtime, runner, run_id = run_script(queue, StepError.permanent("no use"), max_attempts_per_step=5)

    assert len(runner.steps) == 1
    assert state(runtime, run_id) is RunState.FAILED
    assert ended(runtime, run_id).error == "no use"
    assert [job.id for job in queue.dead_jobs(STEPS).jobs] == [runner.steps[0].job_id]
    with pytest.raises(RunFailedError, match="no use"):
        runtime.submit(run_id=run_id).result(0)


def test_a_transient_error_is_retried_at_the_same_step_with_the_same_payload(queue: Queue) -> None:
    runtime, runner, run_id = run_script(
        queue, Continue(b"1"), StepError.transient("a"), StepError("b"), Succeed(b"end"), max_attempts_per_step=3
    )

    assert [(step.step_number, step.attempts, step.payload) for step in runner.steps] == [
        (0, 1, b""), (1, 1, b"1"), (1, 2, b"1"), (1, 3, b"1"),
    ]  # fmt: skip
    assert [step.is_last_attempt for step in runner.steps] == [False, False, False, True]
    history = queue.attempt_history(runner.steps[0].job_id)
    assert [(each.step, each.attempt, each.outcome, each.error) for each in history] == [
        (0, 1, AttemptOutcome.CONTINUED, None),
        (1, 1, AttemptOutcome.RETRIED, "a"),
        (1, 2, AttemptOutcome.RETRIED, "b"),
        (1, 3, AttemptOutcome.SUCCEEDED, None),
    ]
    assert ended(runtime, run_id).result == b"end"


def test_each_step_has_all_its_attempts_again(queue: Queue) -> None:
    runtime, runner, run_id = run_script(queue, OSError(), Continue(), OSError(), Succeed(), max_attempts_per_step=2)

    assert [step.attempts for step in runner.steps] == [1, 2, 1, 2]
    assert state(runtime, run_id) is RunState.SUCCEEDED


@pytest.mark.parametrize("max_attempts", [1, 2, 3])
def test_transient_errors_dead_letter_when_the_attempts_are_out(queue: Queue, max_attempts: int) -> None:
    runtime, runner, run_id = run_script(
        queue, *[OSError(str(n)) for n in range(1, 9)], max_attempts_per_step=max_attempts
    )

    assert [step.attempts for step in runner.steps] == list(range(1, max_attempts + 1))
    assert ended(runtime, run_id).error == f"OSError: {max_attempts}"
    assert counters(queue, STEPS) == {"dead": 1}


def test_a_status_between_attempts_shows_the_last_error(still: Queue, clock: ManualClock) -> None:
    runner = ScriptedRunner([OSError("a stumble"), Succeed()])
    runtime = WorkflowRuntime(still, runner)
    handle = runtime.submit()
    claim = still.claim(STEPS)
    assert claim is not None
    still.nack(claim, "a stumble")

    status = handle.status()
    assert status is not None
    assert (status.state, status.attempts, status.error, status.finished_at) == (
        RunState.PENDING, 1, "a stumble", None,
    )  # fmt: skip


class Odd(BaseException):
    pass


class OwnTransient(TaqubaError):
    is_permanent = False


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("v"), "ValueError: v"),
        (RuntimeError(), "RuntimeError"),
        (KeyboardInterrupt("k"), "KeyboardInterrupt: k"),
        (SystemExit(1), "SystemExit: 1"),
        (GeneratorExit("g"), "GeneratorExit: g"),
        (Odd("o"), "Odd: o"),
        (TypeError("my own TypeError"), "TypeError: my own TypeError"),
        (TimeoutError("t"), "TimeoutError: t"),
        (StepError("s", StepErrorKind.TRANSIENT), "s"),
        (StorageError("full"), "StorageError: full"),
        (OwnTransient("soon"), "OwnTransient: soon"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_these_count_as_transient(queue: Queue, error: BaseException, text: str) -> None:
    runtime, runner, run_id = run_script(queue, error, error, max_attempts_per_step=2)

    assert len(runner.steps) == 2
    assert ended(runtime, run_id).error == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (StepError("s", StepErrorKind.PERMANENT), "s"),
        (CancelRequestedError("c"), "CancelRequestedError: c"),
        (TaqubaError("base"), "TaqubaError: base"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_these_count_as_permanent(queue: Queue, error: BaseException, text: str) -> None:
    runtime, runner, run_id = run_script(queue, error, max_attempts_per_step=5)

    assert len(runner.steps) == 1
    assert ended(runtime, run_id).error == text


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        (None, "NoneType"), (b"bytes", "bytes"), ("text", "str"), (Succeed, "type"), (42, "int"), (True, "bool"),
        pytest.param(StepOutcome(), "StepOutcome", id="StepOutcome"),
        ((Succeed(),), "tuple"), (StepError.permanent("returned"), None),
        (ValueError("returned"), None),
    ],
    ids=stable_id,
)  # fmt: skip
def test_returning_no_outcome_is_permanent_and_says_so(queue: Queue, returned: object, text: str | None) -> None:
    calls: list[int] = []

    def runner(step: Step) -> Any:
        calls.append(step.attempts)
        return returned

    runtime = WorkflowRuntime(queue, runner)
    run_id = runtime.submit(max_attempts_per_step=3).run_id
    runtime.run_until_idle(PATIENCE)

    assert calls == [1]
    error = ended(runtime, run_id).error
    assert error is not None and "run_step returned" in error and "must return Continue" in error
    assert (text or type(returned).__name__) in error


@pytest.mark.parametrize(
    "make",
    [
        lambda: Continue("text"), lambda: Continue(None), lambda: Continue(bytearray()), lambda: Succeed("text"),
        lambda: Succeed(7), lambda: ContinueAfter("text", 1), lambda: ContinueAfter(b"", "1"),
        lambda: ContinueAfter(b"", None), lambda: ContinueAfter(b"", True), lambda: Fail(b"bytes"),
        lambda: Fail(None), lambda: Fail(ValueError()), lambda: Cancel(b"bytes"), lambda: Cancel(None),
    ],
)  # fmt: skip
def test_wrong_outcome_arguments_are_a_type_error_that_is_permanent_from_a_step(queue: Queue, make: Any) -> None:
    with pytest.raises(TypeError):
        make()
    calls: list[int] = []

    def runner(step: Step) -> StepOutcome:
        calls.append(step.attempts)
        return make()  # type: ignore[no-any-return]

    runtime = WorkflowRuntime(queue, runner)
    run_id = runtime.submit(max_attempts_per_step=3).run_id
    runtime.run_until_idle(PATIENCE)

    assert calls == [1]
    error = ended(runtime, run_id).error
    assert error is not None and error.startswith("TypeError: ") and "must be" in error


@pytest.mark.parametrize(
    "make", [lambda: Fail(), lambda: Cancel(), lambda: ContinueAfter(b""), lambda: Succeed(nope=1)]
)
def test_missing_or_unknown_outcome_arguments_are_a_type_error(make: Any) -> None:
    with pytest.raises(TypeError):
        make()


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_a_senseless_delay_is_a_value_error(delay: Any) -> None:
    with pytest.raises(ValueError, match="delay"):
        ContinueAfter(b"", delay)


@pytest.mark.parametrize("outcome", [Continue(b"x" * 11), ContinueAfter(b"x" * 11, 1), Succeed(b"x" * 11)])
def test_a_payload_or_result_too_large_is_permanent(tmp_path: Path, outcome: StepOutcome) -> None:
    with Queue.open(tmp_path / "s", max_payload_bytes=10, durability="relaxed") as queue:
        runtime, runner, run_id = run_script(queue, outcome)

        assert len(runner.steps) == 1
        error = ended(runtime, run_id).error
        assert error is not None and "11 bytes" in error and error.startswith("PayloadTooLargeError")


def test_a_result_of_any_size_comes_back(queue: Queue) -> None:
    for size in (0, 2048, 2049, 1_000_000):
        runtime, _, run_id = run_script(queue, Succeed(b"r" * size))
        assert ended(runtime, run_id).result == b"r" * size


@pytest.mark.parametrize("outcome", [Fail("no file \udcff"), Cancel("no file \udcff")])
def test_a_reason_with_a_lone_surrogate_ends_the_run_and_blocks_nothing(queue: Queue, outcome: StepOutcome) -> None:
    def runner(step: Step) -> StepOutcome:
        return outcome if step.payload == b"odd" else Succeed()

    runtime = WorkflowRuntime(queue, runner)
    runtime.start()
    odd, plain = runtime.submit(input=b"odd"), runtime.submit()
    try:
        assert plain.wait(10).status is TerminalStatus.SUCCEEDED
        error = odd.wait(10).error
        assert error is not None and error.startswith("no file ")
    finally:
        assert runtime.stop(10)


def test_a_reason_may_be_long_and_hold_any_character(queue: Queue) -> None:
    runtime, _, run_id = run_script(queue, Fail("\0 ü 🎉 " + "x" * 100_000))

    error = ended(runtime, run_id).error
    assert error is not None and error.startswith("\0 ü 🎉 xxx") and len(error) < 20_000


def test_backoff_between_attempts_follows_the_queues_configuration(tmp_path: Path, clock: ManualClock) -> None:
    config = QueueConfig(retry_backoff_base=10, retry_backoff_max=15)
    with Queue.open(tmp_path / "s", default_config=config, clock=clock, durability="relaxed") as queue:
        runner = ScriptedRunner([OSError(), OSError(), Succeed()])
        with WorkflowRuntime(queue, runner) as runtime:
            handle = runtime.submit()
            for attempt, seconds in ((1, 10), (2, 15)):
                wait_until(lambda: stored(queue, handle.first_job_id).status is JobStatus.SCHEDULED)
                assert stored(queue, handle.first_job_id).run_at == clock.now() + timedelta(seconds=seconds)
                assert len(runner.steps) == attempt
                clock.advance(seconds)
                wait_until(lambda attempt=attempt: len(runner.steps) > attempt)  # type: ignore[misc]
            assert handle.result(PATIENCE) == b""
