"""The library logs through its own loggers, says where, and never what the payload was."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from taquba_workflow_sync import Fail, Queue, RunOutcome, Step, StepOutcome, WorkflowRuntime
from tests.support import PATIENCE

SECRET = "s3cret-p4yload"


def test_the_package_root_has_a_null_handler_and_no_level() -> None:
    root = logging.getLogger("taquba_workflow_sync")

    assert any(isinstance(handler, logging.NullHandler) for handler in root.handlers)
    assert root.level == logging.NOTSET
    assert root.propagate


def test_an_application_that_configures_no_logging_sees_nothing() -> None:
    code = (
        "from taquba_workflow_sync import *\n"
        "def step(s): raise ValueError\n"
        "with Queue.temporary(default_config=QueueConfig(retry_backoff_base=0)) as q:\n"
        "    r = WorkflowRuntime(q, step, lambda outcome: 1 / 0); r.submit(); r.run_until_idle(30)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert (done.stdout, done.stderr) == ("", "")


def test_a_failed_attempt_is_logged_with_its_place_and_without_its_payload(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    def runner(step: Step) -> StepOutcome:
        if step.is_last_attempt:
            return Fail(SECRET)
        raise ValueError(SECRET)

    with caplog.at_level(logging.DEBUG, "taquba_workflow_sync"):
        runtime = WorkflowRuntime(queue, runner)
        handle = runtime.submit(run_id="r", input=SECRET.encode(), headers={"h": SECRET}, max_attempts_per_step=2)
        runtime.run_until_idle(PATIENCE)

    records = [record for record in caplog.records if getattr(record, "run_id", None) == "r"]
    assert [record.levelname for record in records] == ["INFO", "WARNING", "INFO"]
    for record, attempt in zip(records, (1, 1, 2), strict=True):
        assert (record.step, record.attempt, record.queue, record.job_id) == (  # type: ignore[attr-defined]
            0, attempt, "workflow-steps", handle.first_job_id,
        )  # fmt: skip
    assert all(record.name.startswith("taquba_workflow_sync.") for record in records)
    assert SECRET not in caplog.text
    assert not any(SECRET in repr(vars(record)) for record in caplog.records)


def test_a_failing_hook_is_logged_with_its_run(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    def hook(outcome: RunOutcome) -> None:
        raise OSError(SECRET)

    with caplog.at_level(logging.DEBUG, "taquba_workflow_sync"):
        runtime = WorkflowRuntime(queue, lambda step: Fail("f"), hook)
        handle = runtime.submit(run_id="r", input=SECRET.encode())
        runtime.run_until_idle(PATIENCE)

    records = [record for record in caplog.records if "hook" in record.message]
    assert [record.attempt for record in records] == [1, 2, 3]  # type: ignore[attr-defined]
    for record in records:
        assert (record.run_id, record.job_id) == ("r", handle.first_job_id)  # type: ignore[attr-defined]
        assert record.queue == "workflow-steps.terminal"  # type: ignore[attr-defined]
        assert record.levelno == logging.WARNING
    assert SECRET not in caplog.text


def test_work_that_goes_well_is_quiet(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "taquba_workflow_sync"):
        with WorkflowRuntime(queue, lambda step: Fail("a verdict"), lambda outcome: None) as runtime:
            for _ in range(20):
                runtime.submit()
            runtime.submit().wait(PATIENCE)

    assert [record for record in caplog.records if record.name.startswith("taquba")] == []
