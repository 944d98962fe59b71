"""A program changes while runs are in flight: states of older versions, renamed steps, workers that are older."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from taquba_workflow_sync import Continue, EventKind, Queue, RunFailedError, RunSpec, WorkflowRuntime
from taquba_workflow_sync.flow import Flow, FlowHandle, Goto
from taquba_workflow_sync.testing import ManualClock


@dataclass
class Old:
    email: str


@dataclass
class New:
    to: list[str]


def first_version() -> Flow[Old, str]:
    mails = Flow[Old, str]("mails")

    @mails.start
    def write(state: Old) -> Goto:
        return send.goto(state, after=60)

    @mails.step
    def send(state: Old) -> str:
        return f"v1 {state.email}"

    return mails


def second_version() -> Flow[New, str]:
    mails = Flow[New, str]("mails", version=2)

    @mails.start(name="compose", formerly=("write",))
    def write(state: New) -> Goto:
        return deliver.goto(state, after=60)

    @mails.step(formerly=("send",))
    def deliver(state: New) -> str:
        return f"v2 {state.to}"

    @mails.upgrade(write, since=2)
    @mails.upgrade(deliver, since=2)
    def several(old: Any) -> New:
        return New([old["email"]])

    return mails


def test_a_repeated_submit_is_the_same_run_for_every_version(queue: Queue) -> None:
    def version(number: int) -> Flow[Old, str]:
        flow = Flow[Old, str]("mails", version=number)

        @flow.start
        def write(state: Old) -> str:
            return ""

        return flow

    handles = [version(number).submit(Old("a"), run_id="x", queue=queue) for number in (1, 2, 3)]
    assert [handle.newly_submitted for handle in handles] == [True, False, False]
    assert version(1).spec(Old("a")).input == b'{"email":"a"}'


@pytest.mark.parametrize("at_step", [0, 1])
def test_a_newer_worker_takes_up_runs_of_an_older_one_by_upgrades_and_former_names(
    clock: ManualClock, queue: Queue, at_step: int
) -> None:
    handle = first_version().submit(Old("a"), run_id="x", queue=queue)
    if at_step:
        WorkflowRuntime(queue, first_version()).run_until_idle()
    newer = second_version()
    runtime = WorkflowRuntime(queue, newer)
    runtime.run_until_idle()
    clock.advance(60)
    runtime.run_until_idle()
    assert newer.handle(handle.run_id, queue=queue).result(0) == "v2 ['a']"


@pytest.mark.parametrize("at_step", [0, 1])
def test_an_older_worker_leaves_runs_of_a_newer_one_to_it_uncharged(
    clock: ManualClock, queue: Queue, at_step: int
) -> None:
    newer, older = WorkflowRuntime(queue, second_version()), WorkflowRuntime(queue, first_version())
    handle = second_version().submit(New(["a"]), run_id="x", queue=queue)
    if at_step:
        newer.run_until_idle()
        clock.advance(60)
    assert older.run_until_idle().scheduled == 1
    status = handle.status()
    assert status is not None and (status.attempts, status.waiting_for, status.current_step) == (0, "time", at_step)
    ended = [event for event in handle.history() if event.kind is EventKind.ENDED]
    assert "version 2 of flow 'mails', this worker has version 1" in str(ended[-1].error)
    clock.advance(60)
    newer.run_until_idle()
    clock.advance(60)
    newer.run_until_idle()
    assert handle.result(0) == "v2 ['a']"


def nightly(version: int) -> Flow[int, str]:
    flow = Flow[int, str]("nightly", version=version)

    @flow.start(name=f"step {version}")
    def work(number: int) -> str:
        return f"v{version} {number}"

    return flow


def defined(flow: Flow[int, str], queue: Queue, number: int, hours: int) -> tuple[bytes, timedelta | None]:
    """Do what a process of a version does when it starts, and return what is stored then."""
    flow.schedule("often", number, every=timedelta(hours=hours), queue=queue)
    (schedule,) = flow.client(queue).schedules()
    return schedule.spec.input, schedule.every


def test_an_older_process_that_starts_late_does_not_put_its_schedules_back(clock: ManualClock, queue: Queue) -> None:
    older, newer = nightly(9), nightly(10)
    assert defined(older, queue, 1, 1) == (b"1", timedelta(hours=1))
    assert defined(newer, queue, 2, 2) == (b"2", timedelta(hours=2))
    next_at = newer.client(queue).schedules()[0].next_at
    clock.advance(60)
    assert defined(older, queue, 1, 1) == (b"2", timedelta(hours=2)), "the newer version's stays"
    assert newer.client(queue).schedules()[0].next_at == next_at
    assert defined(nightly(10), queue, 3, 3) == (b"3", timedelta(hours=3)), "of one version the last one holds"
    assert defined(nightly(11), queue, 4, 4) == (b"4", timedelta(hours=4))

    older.client(queue).unschedule("often")
    assert defined(older, queue, 1, 1) == (b"1", timedelta(hours=1)), "a step back makes way for it"


def test_a_schedule_that_no_flow_has_made_replaces_and_is_replaced(queue: Queue) -> None:
    flow = nightly(3)
    defined(flow, queue, 1, 1)
    client = flow.client(queue)
    client.schedule("often", every=60, spec=RunSpec(input=b"7"))
    assert client.schedules()[0].spec.input == b"7"
    assert defined(flow, queue, 1, 1) == (b"1", timedelta(hours=1))


def test_an_older_worker_that_starts_late_does_not_put_its_picture_back(queue: Queue) -> None:
    for version, seen in ((9, 9), (10, 10), (9, 10), (11, 11)):
        flow = nightly(version)
        flow.submit(1, queue=queue)
        WorkflowRuntime(queue, flow).run_until_idle()
        assert f'"step {seen}"' in str(flow.client(queue).graph())


def unknown_step() -> tuple[Flow[int, str], Flow[int, str]]:
    more, fewer = Flow[int, str]("parcels"), Flow[int, str]("parcels")

    @more.start
    def book(number: int) -> Goto:
        return track.goto(number, after=1)

    @more.step
    def track(number: int) -> str:
        return "arrived"

    @fewer.start(name="book")
    def book_only(number: int) -> str:
        return "booked"

    return more, fewer


def run_at_unknown_step(clock: ManualClock, queue: Queue, more: Flow[int, str]) -> FlowHandle[str]:
    """Return a run that stands at the step that only one of the two programs knows."""
    handle = more.submit(7, run_id="x", queue=queue)
    WorkflowRuntime(queue, more).run_until_idle()
    clock.advance(1)
    return handle


def test_a_run_at_a_step_that_no_worker_knows_is_put_back_for_an_hour_and_then_a_dead_letter(
    clock: ManualClock, queue: Queue
) -> None:
    more, fewer = unknown_step()
    handle = run_at_unknown_step(clock, queue, more)
    runtime = WorkflowRuntime(queue, fewer)
    runtime.run_until_idle()
    began = clock.now()
    waits: list[float] = []
    while (status := handle.status()) is not None and status.finished_at is None:
        assert status.attempts == 0
        clock.advance(5)
        if runtime.run_until_idle().steps:
            waits.append((clock.now() - began).total_seconds())
    gaps = [later - earlier for earlier, later in zip([0, *waits], waits, strict=False)]
    assert min(gaps) >= 5 and max(gaps) <= 65
    assert 3600 <= waits[-1] <= 3665
    with pytest.raises(RunFailedError, match=r"no worker could run it for an hour: version 1 .* has no step 'track'"):
        handle.result(0)
    assert queue.stats("parcels").dead == 1
    ended = [event for event in handle.history() if event.kind is EventKind.ENDED]
    assert all("left to a newer worker" in str(event.error) for event in ended[1:-1]) and len(ended) > 60

    handle.retry()
    runtime.run_until_idle()
    status = handle.status()
    assert status is not None and status.waiting_for == "time", "an operator's retry gives it another hour"


def test_a_worker_that_knows_the_step_goes_on_within_the_hour(clock: ManualClock, queue: Queue) -> None:
    more, fewer = unknown_step()
    handle = run_at_unknown_step(clock, queue, more)
    runtime = WorkflowRuntime(queue, fewer)
    for _ in range(10):
        runtime.run_until_idle()
        clock.advance(60)
    WorkflowRuntime(queue, more).run_until_idle()
    assert handle.result(0) == "arrived"
    status = handle.status()
    assert status is not None and status.attempts == 1


def upgraded_by(queue: Queue, *functions: Any) -> Any:
    """Return the error, or the result, of a run of version 1 that a later version takes up."""
    older = first_version()
    handle = older.submit(Old("a"), queue=queue)
    flow = Flow[New, str]("mails", version=1 + len(functions))

    @flow.start
    def write(state: New) -> str:
        return str(state.to)

    for since, function in reversed(list(enumerate(functions, 2))):
        flow.upgrade(write, since=since)(function)
    WorkflowRuntime(queue, flow).run_until_idle()
    outcome = handle.wait(0)
    return flow.result_of(outcome) if outcome.result is not None else outcome.error


def test_several_upgrades_are_applied_in_order_each_on_json(queue: Queue) -> None:
    def second(old: Any) -> Any:
        return {"mail": old["email"]}

    def third(old: Any) -> New:
        return New([old["mail"], "b"])

    def fourth(old: Any) -> Any:
        return {"to": [*old["to"], "c"]}

    assert upgraded_by(queue, second, third, fourth) == "['a', 'b', 'c']"


def test_an_upgrade_that_fails_or_returns_what_does_not_fit_is_a_permanent_failure(queue: Queue) -> None:
    def failing(old: Any) -> New:
        return New(old["nothing"])

    def wrong(old: Any) -> Any:
        return {"to": [5]}

    assert upgraded_by(queue, failing) == "the upgrade of step 'write' since version 2 failed: KeyError: 'nothing'"
    assert upgraded_by(queue, wrong) == "the stored state does not fit step 'write': state.to[0]: expected str, got int"


def test_a_stored_state_that_does_not_fit_is_a_permanent_failure_naming_step_and_path(queue: Queue) -> None:
    flow = first_version()
    handle = flow.client(queue).submit(RunSpec(input=b'{"email":5}'))
    WorkflowRuntime(queue, flow).run_until_idle()
    outcome = handle.wait(0)
    assert outcome.error == "the stored state does not fit step 'write': state.email: expected str, got int"
    other = flow.client(queue).submit(RunSpec(input=b"no json"))
    WorkflowRuntime(queue, flow).run_until_idle()
    assert str(other.wait(0).error).startswith("the stored state does not fit step 'write': state: expected JSON")


def test_a_payload_that_no_flow_has_passed_on_is_a_permanent_failure(queue: Queue) -> None:
    flow = first_version()
    handle = flow.submit(Old("a"), queue=queue)
    client = flow.client(queue)
    seen: list[int] = []

    def bytes_first(step: Any) -> Any:
        seen.append(step.step_number)
        if step.step_number == 0:
            return Continue(b"bytes")
        return flow.run_step(step)

    WorkflowRuntime(queue, bytes_first, queue_name="mails").run_until_idle()
    outcome = client.outcome(handle.run_id)
    assert outcome is not None and "has a payload that no step of a flow has passed on" in str(outcome.error)
    assert seen == [0, 1]
