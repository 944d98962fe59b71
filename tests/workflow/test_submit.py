"""Submitting: names, idempotency, what a spec may say (DESIGN 6.1, 6.2)."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest

from taquba_workflow_sync import (
    HEADER_RUN_ID,
    HEADER_STEP,
    RESERVED_HEADER_PREFIX,
    Fail,
    IfFinished,
    InputMismatchError,
    InvalidNameError,
    InvalidRunIdError,
    JobStatus,
    PayloadTooLargeError,
    Queue,
    QueueConfig,
    ReservedHeaderError,
    RunSpec,
    RunState,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync import Cancel as CancelOutcome
from taquba_workflow_sync.testing import ManualClock
from tests.queue.support import START, counters, stored

from .support import STEPS, ended, state

ENDINGS: dict[str, StepOutcome | StepError] = {
    "succeeded": Succeed(b"result"),
    "failed by verdict": Fail("no"),
    "dead": StepError.permanent("broken"),
    "cancelled": CancelOutcome("enough"),
}


def end_run(queue: Queue, run_id: str, how: str) -> None:
    def runner(step: Step) -> StepOutcome:
        outcome = ENDINGS[how]
        if isinstance(outcome, StepError):
            raise outcome
        return outcome

    WorkflowRuntime(queue, runner).run_until_idle(30)
    assert state(WorkflowClient(queue), run_id) is not RunState.PENDING


def starts_afresh(if_finished: IfFinished, how: str) -> bool:
    match if_finished:
        case IfFinished.KEEP:
            return False
        case IfFinished.RERUN_FAILED:
            return how in ("failed by verdict", "dead")
        case IfFinished.RERUN:
            return True


@pytest.mark.parametrize(("if_finished", "how", "same_input"), list(product(IfFinished, ENDINGS, [True, False])))
def test_a_finished_and_kept_run_decides_what_a_submit_does(
    queue: Queue, if_finished: IfFinished, how: str, same_input: bool
) -> None:
    client = WorkflowClient(queue)
    first = client.submit(run_id="r", input=b"input")
    end_run(queue, "r", how)
    spec = RunSpec(run_id="r", input=b"input" if same_input else b"other", if_finished=if_finished)

    if not same_input and if_finished is not IfFinished.RERUN:
        with pytest.raises(InputMismatchError, match="'r'"):
            client.submit(spec)
        assert [run.job_id for run in client.list_runs().runs] == [first.first_job_id]
        return
    again = client.submit(spec)

    assert again.newly_submitted is starts_afresh(if_finished, how)
    assert (again.first_job_id != first.first_job_id) is again.newly_submitted
    assert state(client, "r") is (RunState.PENDING if again.newly_submitted else first_state(how))


def first_state(how: str) -> RunState:
    return {"succeeded": RunState.SUCCEEDED, "cancelled": RunState.CANCELLED}.get(how, RunState.FAILED)


@pytest.mark.parametrize(("if_finished", "how"), list(product(IfFinished, ENDINGS)))
def test_a_run_not_kept_any_more_never_answers(
    tmp_path: Path, clock: ManualClock, if_finished: IfFinished, how: str
) -> None:
    with Queue.open(tmp_path / "s", clock=clock, durability="relaxed") as queue:
        client = WorkflowClient(queue, keep_runs=10)
        first = client.submit(run_id="r", input=b"input")
        end_run(queue, "r", how)
        clock.advance(10)

        again = client.submit(run_id="r", input=b"other", if_finished=if_finished)

        assert again.newly_submitted
        assert again.first_job_id != first.first_job_id


@pytest.mark.parametrize("if_finished", IfFinished)
@pytest.mark.parametrize("active", ["pending", "scheduled", "claimed"])
def test_an_active_run_answers_with_the_same_input_and_refuses_another(
    still: Queue, if_finished: IfFinished, active: str
) -> None:
    client = WorkflowClient(still)
    first = client.submit(
        run_id="r", input=b"input", run_at=START + timedelta(hours=1) if active == "scheduled" else None
    )
    if active == "claimed":
        still.claim(STEPS)
    again = client.submit(run_id="r", input=b"input", if_finished=if_finished)

    assert (again.newly_submitted, again.first_job_id, again.run_id) == (False, first.first_job_id, "r")
    with pytest.raises(InputMismatchError, match="active"):
        client.submit(run_id="r", input=b"other", if_finished=if_finished)
    assert counters(still, STEPS) == {active: 1}


def test_the_input_of_the_first_submit_counts_at_every_later_step(queue: Queue) -> None:
    """The fingerprint is the input's, not the current payload's."""
    client = WorkflowClient(queue)
    client.submit(run_id="r", input=b"input")
    claim = queue.claim(STEPS)
    assert claim is not None
    queue.advance(claim, b"payload of step 1")

    assert client.submit(run_id="r", input=b"input").newly_submitted is False
    with pytest.raises(InputMismatchError):
        client.submit(run_id="r", input=b"payload of step 1")


def test_one_name_in_two_queues_is_two_runs(queue: Queue) -> None:
    a, b = (WorkflowClient(queue, queue_name=name) for name in ("a", "b"))

    assert a.submit(run_id="r", input=b"1").newly_submitted
    assert b.submit(run_id="r", input=b"2").newly_submitted


def test_a_submit_after_a_restart_finds_the_run(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s") as queue:
        first = WorkflowClient(queue).submit(run_id="daily", input=b"x")
    with Queue.open(tmp_path / "s") as queue:
        again = WorkflowClient(queue).submit(run_id="daily", input=b"x")

    assert (again.newly_submitted, again.first_job_id) == (False, first.first_job_id)


def test_without_a_name_every_submit_is_a_run_of_its_own(queue: Queue) -> None:
    client = WorkflowClient(queue)
    one, two = client.submit(input=b"x"), client.submit(input=b"x")

    assert one.newly_submitted and two.newly_submitted
    assert one.run_id == one.first_job_id != two.run_id == two.first_job_id


def test_a_step_record_carries_the_headers_and_the_derived_dedup_key(queue: Queue) -> None:
    handle = WorkflowClient(queue).submit(run_id="r", headers={"h": "1"})

    job = stored(queue, handle.first_job_id)

    assert job.headers == {"h": "1", "workflow.run_id": "r", "workflow.step": "0"}
    assert (HEADER_RUN_ID, HEADER_STEP, RESERVED_HEADER_PREFIX) == ("workflow.run_id", "workflow.step", "workflow.")
    assert job.dedup_key == "run:r:0"
    claim = queue.claim(STEPS)
    assert claim is not None and claim.job.headers == job.headers
    queue.advance(claim, b"")
    assert stored(queue, handle.first_job_id).headers["workflow.step"] == "1"
    assert stored(queue, handle.first_job_id).dedup_key == "run:r:1"


def test_the_derived_dedup_key_is_not_in_the_dedup_index(queue: Queue) -> None:
    WorkflowClient(queue).submit(run_id="r")
    queue.enqueue(STEPS, b"", dedup_key="run:r:0")

    assert counters(queue, STEPS) == {"pending": 2}


@pytest.mark.parametrize("name", ["workflow.", "workflow.run_id", "workflow.step", "workflow.anything"])
def test_reserved_headers_are_refused_and_nothing_is_written(queue: Queue, name: str) -> None:
    with pytest.raises(ReservedHeaderError, match=name):
        WorkflowClient(queue).submit(headers={name: "1"})

    assert queue.list_queues() == []


@pytest.mark.parametrize("name", ["workflow", "Workflow.x", "workflows.x", "x.workflow.y"])
def test_headers_that_only_resemble_them_are_taken(queue: Queue, name: str) -> None:
    seen: list[dict[str, str]] = []

    def runner(step: Step) -> StepOutcome:
        seen.append(step.headers)
        return Succeed()

    runtime = WorkflowRuntime(queue, runner)
    runtime.submit(headers={name: "1"})
    runtime.run_until_idle(30)

    assert seen == [{name: "1"}]


def test_a_header_slipped_in_after_the_spec_was_made_is_not_submitted(queue: Queue) -> None:
    headers = {"h": "1"}
    spec = RunSpec(headers=headers)
    headers["workflow.step"] = "7"
    handle = WorkflowClient(queue).submit(spec)

    assert spec.headers == {"h": "1"}
    assert stored(queue, handle.first_job_id).headers == {
        "h": "1",
        "workflow.run_id": handle.run_id,
        "workflow.step": "0",
    }


@pytest.mark.parametrize("run_id", ["", "x" * 129, "a b", "a/b", "../x", "ä", "a\n", "a."])
def test_run_ids_outside_the_alphabet_are_refused(queue: Queue, run_id: str) -> None:
    with pytest.raises(InvalidRunIdError):
        RunSpec(run_id=run_id)
    client = WorkflowClient(queue)
    for call in (client.status, client.outcome, client.cancel, client.retry, lambda name: client.wait(name, 0)):
        with pytest.raises(InvalidRunIdError):
            call(run_id)


@pytest.mark.parametrize("name", ["x" * 247, "", "steps.terminal", "ü" * 124])
def test_queue_names_a_runtime_cannot_use_are_refused(queue: Queue, name: str) -> None:
    with pytest.raises(InvalidNameError):
        WorkflowClient(queue, queue_name=name)


@pytest.mark.parametrize("name", ["x" * 246, ".terminal.x", "terminal"])
def test_other_queue_names_are_taken(queue: Queue, name: str) -> None:
    assert WorkflowClient(queue, queue_name=name).submit().newly_submitted


def test_limits_come_from_the_spec_or_else_the_queue(tmp_path: Path) -> None:
    configs = {STEPS: QueueConfig(max_attempts=7, default_priority=70)}
    with Queue.open(tmp_path / "s", queue_configs=configs) as queue:
        client = WorkflowClient(queue)
        default = stored(queue, client.submit().first_job_id)
        given = stored(queue, client.submit(max_attempts_per_step=2, priority=5).first_job_id)

    assert (default.max_attempts, default.priority) == (7, 70)
    assert (given.max_attempts, given.priority) == (2, 5)


def test_run_at_delays_the_first_step(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, lambda step: Succeed())
    handle = runtime.submit(run_at=START + timedelta(hours=1))
    assert stored(still, handle.first_job_id).status is JobStatus.SCHEDULED
    assert state(runtime, handle.run_id) is RunState.PENDING
    assert runtime.run_until_idle(30).steps == 0
    clock.advance(timedelta(hours=1))

    assert runtime.run_until_idle(30).succeeded == 1


def test_an_input_too_large_is_refused(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s", max_payload_bytes=10) as queue:
        with pytest.raises(PayloadTooLargeError, match="input"):
            WorkflowClient(queue).submit(input=b"x" * 11)
        assert queue.list_queues() == []


def test_submit_takes_a_spec_or_fields_but_not_both(queue: Queue) -> None:
    client = WorkflowClient(queue)
    assert client.submit(RunSpec(run_id="a")).run_id == "a"
    assert client.submit(run_id="b").run_id == "b"
    assert client.submit().newly_submitted
    with pytest.raises(TypeError):
        client.submit(RunSpec(), run_id="c")
    with pytest.raises(TypeError):
        client.submit(name="d")


def test_many_are_submitted_in_order(queue: Queue) -> None:
    client = WorkflowClient(queue)
    handles = client.submit_many(RunSpec(run_id=f"r{n}") for n in range(5))

    assert [handle.run_id for handle in handles] == [f"r{n}" for n in range(5)]
    assert [run.run_id for run in client.list_runs().runs] == [f"r{n}" for n in range(5)]
    assert client.submit_many([]) == []


def test_many_are_submitted_all_or_none(queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.submit(run_id="taken", input=b"1")

    with pytest.raises(InputMismatchError):
        client.submit_many([RunSpec(run_id="new"), RunSpec(run_id="taken", input=b"2"), RunSpec()])

    assert [run.run_id for run in client.list_runs().runs] == ["taken"]


def test_many_may_name_runs_that_are_there_already(queue: Queue) -> None:
    client = WorkflowClient(queue)
    there = client.submit(run_id="there")

    handles = client.submit_many([RunSpec(run_id="there"), RunSpec(run_id="new")])

    assert [handle.newly_submitted for handle in handles] == [False, True]
    assert handles[0].first_job_id == there.first_job_id


def test_one_name_twice_in_a_batch_is_one_run(queue: Queue) -> None:
    client = WorkflowClient(queue)
    one, two = client.submit_many([RunSpec(run_id="r", input=b"x"), RunSpec(run_id="r", input=b"x")])
    assert (one.newly_submitted, two.newly_submitted, one.first_job_id) == (True, False, two.first_job_id)

    with pytest.raises(InputMismatchError):
        client.submit_many([RunSpec(run_id="s", input=b"x"), RunSpec(run_id="s", input=b"y")])
    assert client.status("s") is None


def test_a_handle_is_bound_to_its_job_not_to_the_name(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, lambda step: Succeed(step.payload))
    first = runtime.submit(run_id="r", input=b"one")
    runtime.run_until_idle(30)
    second = runtime.submit(run_id="r", input=b"two", if_finished=IfFinished.RERUN)
    assert first.status().state is RunState.SUCCEEDED  # type: ignore[union-attr]
    assert second.status().state is RunState.PENDING  # type: ignore[union-attr]
    assert first.cancel() is False, "the old run has ended; the new one is none of its business"
    runtime.run_until_idle(30)

    assert (first.result(30), second.result(30)) == (b"one", b"two")
    assert ended(runtime, "r").result == b"two", "looked up by name, the newest answers"
