"""Malformed and foreign jobs on a workflow queue dead-letter and block nothing (DESIGN 6.12)."""

from __future__ import annotations

import pytest

from taquba_workflow_sync import HEADER_RUN_ID, HEADER_STEP, JobStatus, Queue, TerminalStatus, WorkflowRuntime
from taquba_workflow_sync.storage.relational.sql.names import JOB, OVERFLOW
from taquba_workflow_sync.testing import RecordingHook
from tests.queue.support import PATIENCE, corrupt, counters, stored
from tests.stable_ids import stable_id

from .support import STEPS, echo


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, "MissingHeaderError"),
        (None, "MissingHeaderError"),
        ({HEADER_STEP: "0"}, "MissingHeaderError"),
        ({"h": "1"}, "MissingHeaderError"),
        ({HEADER_RUN_ID: "r"}, "MissingHeaderError"),
        ({HEADER_RUN_ID: "r", HEADER_STEP: "x"}, "InvalidStepHeaderError"),
        ({HEADER_RUN_ID: "r", HEADER_STEP: "-1"}, "InvalidStepHeaderError"),
        ({HEADER_RUN_ID: "r", HEADER_STEP: "1.0"}, "InvalidStepHeaderError"),
        ({HEADER_RUN_ID: "r", HEADER_STEP: ""}, "InvalidStepHeaderError"),
        ({HEADER_RUN_ID: "r", HEADER_STEP: "٣"}, "InvalidStepHeaderError"),
        ({HEADER_RUN_ID: "r", HEADER_STEP: "9" * 5000}, "InvalidStepHeaderError"),
        ({HEADER_RUN_ID: "", HEADER_STEP: "0"}, "HeaderError"),
        ({HEADER_RUN_ID: "../etc", HEADER_STEP: "0"}, "HeaderError"),
        ({HEADER_RUN_ID: "r", HEADER_STEP: "0"}, "HeaderError"),
    ],
    ids=stable_id,
)
def test_a_foreign_job_dead_letters_at_once_and_the_runs_go_on(
    queue: Queue, headers: dict[str, str] | None, error: str
) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, echo, hook, max_concurrent_steps=1)
    foreign = queue.enqueue(STEPS, b"payload", headers=headers, priority=1, max_attempts=5)
    run = runtime.submit()
    runtime.run_until_idle(PATIENCE)

    job = stored(queue, foreign)
    assert (job.status, job.attempts, job.payload) == (JobStatus.DEAD, 1, b"payload")
    assert job.last_error is not None and error in job.last_error.partition(":")[0]
    assert len(job.last_error) < 1000
    assert run.wait(0).status is TerminalStatus.SUCCEEDED
    assert [outcome.run_id for outcome in hook.outcomes] == [run.run_id], "a foreign job ends no run"


def test_a_foreign_job_does_not_count_as_a_run(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo)
    queue.enqueue(STEPS, b"")
    counts = runtime.run_until_idle(PATIENCE)

    assert (counts.succeeded, counts.failed, counts.cancelled, counts.steps, counts.dead) == (0, 0, 0, 0, 1)
    assert runtime.list_runs().runs == []
    assert runtime.status("r") is None


def test_a_foreign_job_that_names_a_real_run_does_not_touch_it(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo)
    handle = runtime.submit(run_id="r", input=b"real")
    queue.enqueue(STEPS, b"forged", headers={HEADER_RUN_ID: "r", HEADER_STEP: "0"}, priority=1)
    runtime.run_until_idle(PATIENCE)

    assert handle.result(0) == b"real"


def test_many_foreign_jobs_block_nothing(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo, max_concurrent_steps=2)
    queue.enqueue_batch(STEPS, [b""] * 100)
    handle = runtime.submit(priority=5000)
    runtime.run_until_idle(PATIENCE)

    assert handle.wait(0).status is TerminalStatus.SUCCEEDED
    assert counters(queue, STEPS) == {"dead": 100, "done": 1}


@pytest.mark.embedded
def test_a_run_with_undecodable_headers_dead_letters_and_the_others_go_on(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo, max_concurrent_steps=1)
    broken = runtime.submit(run_id="broken", headers={"h": "1"})
    good = [runtime.submit() for _ in range(3)]
    corrupt(queue, f"UPDATE {JOB} SET headers = '{{broken' WHERE run_id = 'broken'")
    with runtime:
        assert [each.wait(PATIENCE).status for each in good] == [TerminalStatus.SUCCEEDED] * 3
        assert broken.wait(PATIENCE).status is TerminalStatus.FAILED
    assert counters(queue, STEPS) == {"dead": 1, "done": 3}


@pytest.mark.embedded
def test_a_run_whose_payload_vanished_dead_letters_and_the_others_go_on(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, echo, max_concurrent_steps=1)
    broken = runtime.submit(run_id="broken", input=b"x" * 5000)
    good = [runtime.submit() for _ in range(3)]
    corrupt(queue, f"DELETE FROM {OVERFLOW}")
    with runtime:
        assert [each.wait(PATIENCE).status for each in good] == [TerminalStatus.SUCCEEDED] * 3
        assert broken.wait(PATIENCE).status is TerminalStatus.FAILED


@pytest.mark.embedded
def test_an_undecodable_notification_dead_letters_and_the_others_are_delivered(queue: Queue) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, echo, hook)
    runtime.start()
    runtime.stop()
    other = WorkflowRuntime(queue, echo)
    for name in ("a", "b", "c"):
        other.submit(run_id=name)
    other.run_until_idle(PATIENCE)
    of_b = 'headers LIKE \'%"workflow.run_id":"b"%\' AND run_id IS NULL'
    corrupt(queue, f"UPDATE {JOB} SET headers = '{{broken' WHERE {of_b}")
    runtime.run_until_idle(PATIENCE)

    assert sorted(outcome.run_id for outcome in hook.outcomes) == ["a", "c"]
    assert counters(queue, STEPS + ".terminal") == {"dead": 1, "done": 2}
