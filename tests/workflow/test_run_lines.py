"""What is logged of a run: its start, its retries, its end; with the place, after the commit, and no payload."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from taquba_workflow_sync import Cancel, Continue, Fail, Queue, Step, StepError, StepOutcome, Succeed, WorkflowRuntime
from taquba_workflow_sync.storage.port.claim import TakenBack
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.testing import ManualClock
from taquba_workflow_sync.workflow.step_log import line_about_taken_back
from tests.support import PATIENCE, in_thread

SECRET = "s3cret"
ROOT = "taquba_workflow_sync"


def told(caplog: pytest.LogCaptureFixture, run_id: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if getattr(record, "run_id", None) == run_id]


def levels(records: list[logging.LogRecord]) -> list[str]:
    return [record.levelname for record in records]


def place(record: Any) -> tuple[object, ...]:
    return record.step, record.label, record.attempt, record.queue, record.job_id


def run_one(queue: Queue, runner: Any, **fields: Any) -> str:
    runtime = WorkflowRuntime(queue, runner)
    handle = runtime.submit(run_id="r", **fields)
    runtime.run_until_idle(PATIENCE)
    return handle.first_job_id


def test_a_run_that_goes_well_has_a_line_at_its_start_and_one_at_its_end(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    def two(step: Step) -> StepOutcome:
        return Succeed(SECRET.encode()) if step.step_number else Continue(SECRET.encode(), label="ship")

    with caplog.at_level(logging.INFO, ROOT):
        job_id = run_one(queue, two, input=SECRET.encode(), label="charge")
    records = told(caplog, "r")
    assert levels(records) == ["INFO", "INFO"]
    assert [record.getMessage() for record in records] == ["run r started", "run r succeeded at step 1"]
    assert [place(record) for record in records] == [
        (0, "charge", 1, "workflow-steps", job_id),
        (1, "ship", 1, "workflow-steps", job_id),
    ]
    assert SECRET not in caplog.text


def test_a_retry_is_a_warning_that_names_the_error_and_not_what_it_says(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    def once(step: Step) -> StepOutcome:
        if step.attempts == 1:
            raise OSError(SECRET)
        return Succeed()

    with caplog.at_level(logging.INFO, ROOT):
        run_one(queue, once)
    records = told(caplog, "r")
    assert levels(records) == ["INFO", "WARNING", "INFO"]
    assert "attempt 1 of 3" in records[1].getMessage() and "OSError" in records[1].getMessage()
    assert records[1].exc_info is None
    assert SECRET not in caplog.text


def test_a_dead_letter_is_an_error_with_its_exception_and_is_the_end(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    def never(step: Step) -> StepOutcome:
        raise StepError.permanent("410 from upstream")

    with caplog.at_level(logging.INFO, ROOT):
        run_one(queue, never)
    records = told(caplog, "r")
    assert levels(records) == ["INFO", "ERROR"]
    assert records[1].exc_info is not None and records[1].exc_info[0] is StepError
    assert "never" in caplog.text and "410 from upstream" in caplog.text


def test_a_dead_letter_without_an_exception_says_why(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, ROOT):
        run_one(queue, lambda step: None)
    records = told(caplog, "r")
    assert levels(records) == ["INFO", "ERROR"]
    assert records[1].exc_info is None
    assert "is a return missing?" in records[1].getMessage()


@pytest.mark.parametrize(
    ("outcome", "text"), [(Fail(SECRET), "by its runner's verdict"), (Cancel(SECRET), "was cancelled")]
)
def test_other_ends_are_lines_too(
    queue: Queue, caplog: pytest.LogCaptureFixture, outcome: StepOutcome, text: str
) -> None:
    with caplog.at_level(logging.INFO, ROOT):
        run_one(queue, lambda step: outcome)
    records = told(caplog, "r")
    assert levels(records) == ["INFO", "INFO"]
    assert text in records[1].getMessage()
    assert SECRET not in caplog.text


def test_a_line_is_written_after_its_commit_and_under_no_lock(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    runtime = WorkflowRuntime(queue, lambda step: Fail("no"))
    seen: list[object] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            dispatcher = runtime._dispatcher
            if dispatcher is not None and "verdict" in record.getMessage():
                seen.append(runtime.outcome("r"))
                turn = dispatcher._state.turn
                # On another thread: the one that writes the line would be let in where it is inside already.
                seen.append(in_thread(lambda: turn.acquire(timeout=PATIENCE))())
                turn.release()

    with handling(Handler()), caplog.at_level(logging.INFO, ROOT):
        runtime.submit(run_id="r")
        runtime.run_until_idle(PATIENCE)
    outcome, was_free = seen
    assert was_free and outcome is not None and outcome.status == "failed"  # type: ignore[attr-defined]


def test_a_handler_that_raises_keeps_nothing_from_going_on(
    queue: Queue, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "verdict" in record.getMessage():
                raise RuntimeError("the handler is broken")

    with handling(Handler()), caplog.at_level(logging.INFO, ROOT):
        runtime = WorkflowRuntime(queue, lambda step: Fail("no"))
        for _ in range(3):
            runtime.submit()
        assert runtime.run_until_idle(PATIENCE).failed == 3
    assert capsys.readouterr().err.count("RuntimeError: the handler is broken") == 3
    assert "dispatcher" not in caplog.text


@contextmanager
def handling(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger(ROOT)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def test_nothing_is_made_for_a_level_that_is_off(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger(f"{ROOT}.workflow.step_log")
    monkeypatch.setattr(logger, "level", logging.CRITICAL)
    logger.manager._clear_cache()  # type: ignore[attr-defined]  # as setLevel does

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a record was made")

    monkeypatch.setattr(logger, "makeRecord", refuse)
    assert run_one(queue, lambda step: Succeed())
    monkeypatch.undo()
    logger.manager._clear_cache()  # type: ignore[attr-defined]


def test_the_traceback_of_each_failed_attempt_is_in_the_history(queue: Queue) -> None:
    def book(step: Step) -> StepOutcome:
        raise OSError(f"attempt {step.attempts}")

    runtime = WorkflowRuntime(queue, book)
    handle = runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    ended = [event for event in runtime.history("r") if event.kind == "ended"]
    assert [event.outcome for event in ended] == ["retried", "retried", "dead"]
    for number, event in enumerate(ended, 1):
        assert event.traceback is not None
        lines = event.traceback.splitlines()
        assert lines[0] == "Traceback (most recent call last):" and lines[-1] == f"OSError: attempt {number}"
        assert ", in book" in lines[1]  # what the library has called on the way is left out
    attempts = queue.attempt_history(handle.first_job_id)
    assert [attempt.traceback for attempt in attempts] == [event.traceback for event in ended]


def test_an_error_whose_traceback_cannot_be_told_ends_its_step_all_the_same(queue: Queue) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

        @property
        def __cause__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("no")

    def odd(step: Step) -> StepOutcome:
        raise Odd

    runtime = WorkflowRuntime(queue, odd)
    runtime.submit(run_id="r")
    assert runtime.run_until_idle(PATIENCE).failed == 1


def test_a_deep_recursion_keeps_its_end(queue: Queue) -> None:
    def deep(step: Step) -> StepOutcome:
        return deep(step)

    run_one(queue, deep, max_attempts_per_step=1)
    (event,) = [event for event in WorkflowRuntime(queue, deep).history("r") if event.kind == "ended"]
    assert event.traceback is not None
    assert len(event.traceback.encode()) <= 8 * 1024 and "RecursionError" in event.traceback.splitlines()[-1]


def test_a_run_that_ends_without_a_step_has_a_line_as_its_end(
    still: Queue, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = WorkflowRuntime(still, lambda step: Succeed())
    runtime.submit(run_id="late", label="charge", deadline=timedelta(minutes=1))
    runtime.submit(run_id="stale", expires_after=timedelta(minutes=1))
    clock.advance(61)
    with caplog.at_level(logging.INFO, ROOT):
        counts = runtime.run_until_idle(PATIENCE)
    assert (counts.failed, counts.cancelled, counts.steps, runtime.dead_letters) == (1, 1, 0, 1)
    (late,), (stale,) = told(caplog, "late"), told(caplog, "stale")
    assert (late.levelname, place(late)[:2]) == ("ERROR", (0, "charge"))
    assert late.getMessage().startswith("run late is a dead letter: step 0, attempt 0 of 3: ")
    assert (stale.levelname, place(stale)[:2]) == ("INFO", (0, None))
    assert stale.getMessage().startswith("run stale was cancelled at step 0: ")


def test_a_step_that_nobody_works_on_any_more_has_a_line_when_it_is_taken_back(
    still: Queue, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = WorkflowRuntime(still, lambda step: Succeed())
    runtime.submit(run_id="again", max_attempts_per_step=2, label="ship")
    runtime.submit(run_id="dead", max_attempts_per_step=1)
    while still.claim("workflow-steps", lease=1.0) is not None:
        pass
    clock.advance(2)
    with caplog.at_level(logging.INFO, ROOT):
        counts = runtime.run_until_idle(PATIENCE)
    assert (counts.succeeded, counts.failed, counts.steps, runtime.dead_letters) == (1, 1, 1, 1)
    again, (dead,) = told(caplog, "again"), told(caplog, "dead")
    assert levels(again) == ["WARNING", "INFO"] and dead.levelname == "ERROR"
    assert place(again[0])[:4] == (0, "ship", 1, "workflow-steps")
    assert again[0].getMessage() == (
        "run again, step 0: attempt 1 of 2 has come to no end and is tried again: the lease expired"
    )
    assert dead.getMessage().startswith("run dead is a dead letter: step 0, attempt 1 of 1: ")


def test_what_nobody_listens_to_is_no_line() -> None:
    taken = TakenBack("j", "r", "q", 2, 1, 3, "ship", JobStatus.CANCELLED, "its time is over")
    assert line_about_taken_back(taken) is None
    assert line_about_taken_back(taken._replace(status=JobStatus.DEAD)) is not None
    assert line_about_taken_back(taken._replace(status=JobStatus.DEAD, run_id=None)) is None, "it is no run"
