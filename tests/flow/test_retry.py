"""A run that failed goes on with a state that an operator gives it, as a value of the step's type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from taquba_workflow_sync import Continue, Fail, InvalidStateError, Queue, RunFailedError, RunNotFoundError, RunSpec
from taquba_workflow_sync import WorkflowRuntime as Runtime
from taquba_workflow_sync.flow import Flow, FlowHandle, Goto


@dataclass
class Old:
    mail: str


@dataclass
class New:
    mails: list[str]


def older(fails_at: str = "send") -> Flow[Old, str]:
    flow = Flow[Old, str]("mails")

    @flow.start
    def write(state: Old) -> Goto | Fail:
        return Fail(f"no address {state.mail}") if fails_at == "write" else send.goto(state)

    @flow.step
    def send(state: Old) -> Fail:
        return Fail(f"no address {state.mail}")

    return flow


def newer() -> Flow[New, str]:
    flow = Flow[New, str]("mails", version=2)

    @flow.start
    def write(state: New) -> Goto:
        return deliver.goto(New([*state.mails, "written"]))

    @flow.step(formerly=("send",))
    def deliver(state: New) -> str | Fail:
        return Fail("none") if "none" in state.mails else ",".join(state.mails)

    @flow.upgrade(write, since=2)
    @flow.upgrade(deliver, since=2)
    def of_one(old: Any) -> New:
        return New([old["mail"]])

    return flow


def run(queue: Queue, flow: Flow[Any, str], handle: FlowHandle[str]) -> str:
    Runtime(queue, flow).run_until_idle()
    try:
        return handle.result(0)
    except RunFailedError as error:
        return f"failed: {error.outcome.error}"


@pytest.mark.parametrize("fails_at", ["write", "send"])
def test_a_state_is_given_as_a_value_and_stored_as_the_step_reads_it(queue: Queue, fails_at: str) -> None:
    flow = older(fails_at)
    handle = flow.submit(Old("a"), run_id="x", queue=queue)
    assert run(queue, flow, handle) == "failed: no address a"
    flow.handle("x", queue=queue).retry(payload=Old("b"))
    assert run(queue, flow, handle) == "failed: no address b"
    handle.retry()
    assert run(queue, flow, handle) == "failed: no address b", "without one the step has what it had"
    assert not flow.submit(Old("a"), run_id="x", queue=queue).newly_submitted, "it is the run of its input"


@pytest.mark.parametrize("fails_at", ["write", "send"])
@pytest.mark.parametrize("wrong", [Old(5), {"mail": 5}, b"b", "b"], ids=str)  # type: ignore[arg-type]  # that is tried
def test_a_state_that_does_not_fit_is_refused_with_its_path_and_nothing_is_written(
    queue: Queue, fails_at: str, wrong: Any
) -> None:
    flow = older(fails_at)
    handle = flow.submit(Old("a"), queue=queue)
    run(queue, flow, handle)
    with pytest.raises(TypeError, match=r"^state(\.mail)?: expected (str|object), got (int|str)"):
        handle.retry(payload=wrong)
    status = handle.status()
    assert status is not None and status.finished_at is not None
    assert len(handle.history()) == len(flow.client(queue).history(handle.run_id))


@pytest.mark.parametrize(("fails_at", "result"), [("write", "b,c,written"), ("send", "b,c")])
def test_a_newer_program_gives_a_state_of_its_own_form_which_no_upgrade_and_no_older_worker_takes_up(
    queue: Queue, fails_at: str, result: str
) -> None:
    of_old = older(fails_at)
    handle = of_old.submit(Old("a"), run_id="x", queue=queue)
    run(queue, of_old, handle)
    newer().handle("x", queue=queue).retry(payload=New(["b", "c"]))
    Runtime(queue, of_old).run_until_idle()
    assert "version 2 of flow 'mails', this worker has version 1" in str(handle.history()[-1].error)
    of_old.client(queue).wake("x")
    assert run(queue, newer(), handle) == result


def test_a_state_given_at_the_start_is_read_by_an_older_programs_newer_version_too(queue: Queue) -> None:
    flow = newer()
    handle = flow.submit(New(["none"]), run_id="x", queue=queue)
    assert run(queue, flow, handle) == "failed: none"
    handle.retry(payload=New(["b"]), memo="clear")
    assert run(queue, flow, handle) == "b"


def test_a_program_gives_no_state_to_a_run_that_it_does_not_know_the_step_of(queue: Queue) -> None:
    flow = newer()
    handle = flow.submit(New(["none"]), run_id="x", queue=queue)
    run(queue, flow, handle)
    with pytest.raises(
        InvalidStateError, match="a state of version 2, this program has version 1; retry it by a newer"
    ):
        older().handle("x", queue=queue).retry(payload=Old("b"))

    other = Flow[New, str]("mails", version=2)

    @other.start
    def write(state: New) -> str:
        return ""

    with pytest.raises(InvalidStateError, match="stands at step 'deliver', which version 2 of it has not"):
        other.handle("x", queue=queue).retry(payload=New([]))


def test_a_state_given_at_the_start_is_stored_as_an_input_is_where_that_says_its_version(queue: Queue) -> None:
    flow = older("write")
    handle = flow.submit(Old("a"), queue=queue)
    run(queue, flow, handle)
    handle.retry(payload=Old("b"))
    job = queue.get_job(handle.first_job_id)
    assert job is not None and job.payload == b'{"mail":"b"}'


def test_a_run_that_no_flow_has_submitted_is_given_a_state_too(queue: Queue) -> None:
    flow = older("write")
    handle = flow.client(queue).submit(RunSpec(run_id="x", input=b'{"mail":"a"}'))
    Runtime(queue, flow).run_until_idle()
    assert handle.wait(0).error == "no address a"
    flow.handle("x", queue=queue).retry(payload=Old("b"))
    assert run(queue, flow, flow.handle("x", queue=queue)) == "failed: no address b"


def test_a_run_that_has_not_failed_is_not_given_a_state(queue: Queue) -> None:
    flow = older()
    with pytest.raises(RunNotFoundError):
        flow.handle("x", queue=queue).retry(payload=Old("b"))
    handle = flow.submit(Old("a"), run_id="x", queue=queue)
    with pytest.raises(InvalidStateError):
        handle.retry(payload=Old("b"))


def test_a_run_that_is_none_of_a_flow_is_not_given_a_state(queue: Queue) -> None:
    flow = older()
    handle = flow.submit(Old("a"), run_id="x", queue=queue)

    def of_bytes(step: Any) -> Any:
        return Fail("no") if step.step_number else Continue(b"bytes")

    Runtime(queue, of_bytes, queue_name=flow.name).run_until_idle()
    with pytest.raises(InvalidStateError, match="step 1 has a payload that no step of a flow has passed on"):
        handle.retry(payload=Old("b"))
