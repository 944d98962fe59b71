"""Flows in several processes: a rolling deploy in both directions, and kill -9 in the middle of a durable function."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue
from tests.flow.program import Mail, OldMail, Order, invoices, mails_of_version_1, mails_of_version_2
from tests.processes.harness import Child, Stage, staged
from tests.support import PATIENCE, wait_until

pytestmark = pytest.mark.embedded


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    yield from staged(tmp_path)


@pytest.fixture
def queue(stage: Stage) -> Iterator[Queue]:
    with Queue.open(stage.store) as queue:
        yield queue


def worker(stage: Stage, version: int) -> Child:
    child = stage.start("tests.flow.program", version)
    child.hear("ready")
    return child


def test_a_rolling_deploy_of_two_versions_loses_nothing_and_charges_nothing(stage: Stage, queue: Queue) -> None:
    older, newer = mails_of_version_1(stage.witness), mails_of_version_2(stage.witness)
    client = older.client(queue)
    old_worker = worker(stage, 1)
    old = [older.submit(OldMail(f"old-{n}", "a"), run_id=f"old-{n}", queue=queue) for n in range(4)]
    new = [newer.submit(Mail(f"new-{n}", ["a", "b"]), run_id=f"new-{n}", queue=queue) for n in range(4)]
    half, rest = old[:2], old[2:]
    for handle in old:
        wait_until(lambda h=handle: h.status().waiting_for == "signal:go", "the old worker to have written")
    for handle in half:
        older.signal(handle.run_id, "go", queue=queue)
    assert [handle.result(PATIENCE) for handle in half] == ["1 a", "1 a"]
    for handle in new:
        wait_until(lambda h=handle: _was_left(h), "the old worker to leave a new run alone")

    new_worker = worker(stage, 2)
    for handle in (*rest, *new):
        older.signal(handle.run_id, "go", queue=queue)

    def all_have_ended() -> bool:
        for handle in new:
            client.wake(handle.run_id)  # whichever worker takes it up: the old one leaves it again
        return all(handle.status().finished_at is not None for handle in (*rest, *new))

    wait_until(all_have_ended, "all runs to end")
    assert {handle.result(0) for handle in rest} <= {"1 a", "2 a"}
    assert [handle.result(0) for handle in new] == ["2 a,b"] * 4
    old_worker.stops()

    late = older.submit(OldMail("late", "z"), run_id="late", queue=queue)  # a submitter that was not deployed yet
    older.signal("late", "go", queue=queue)
    assert late.result(PATIENCE) == "2 z"
    new_worker.stops()
    ran = [(words[0], words[1]) for words in stage.witness.lines("ran")]
    assert len(ran) == len(set(ran)) == 2 * 9, "each step once"
    assert all(words[2] == "2" for words in stage.witness.lines("ran") if words[0].startswith("new"))
    assert {handle.status().attempts for handle in (*old, *new)} == {1}


def test_an_older_worker_that_is_started_again_during_a_deploy_leaves_the_newer_ones_schedules(
    stage: Stage, queue: Queue
) -> None:
    client = mails_of_version_2(stage.witness).client(queue)

    def stored() -> bytes:
        (schedule,) = client.schedules()
        return schedule.spec.input

    old, new = b'{"run":"nightly","to":"a"}', b'{"run":"nightly","to":["a"]}'
    children: list[Child] = []
    for version, expected in ((1, old), (2, new), (1, new)):
        children.append(worker(stage, version))
        assert stored() == expected, f"a worker of version {version} has started"
    for child in children:
        child.stops()


def _was_left(handle: object) -> bool:
    return any("left to a newer worker" in str(event.error) for event in handle.history())  # type: ignore[attr-defined]  # a FlowHandle


def test_a_durable_function_that_is_killed_goes_on_behind_the_last_call_that_finished(
    stage: Stage, queue: Queue
) -> None:
    flow = invoices(stage.witness)
    first = worker(stage, 2)
    handle = flow.submit(Order("x"), run_id="x", queue=queue)
    first.hear("holds")
    stage.kill(first)
    second = worker(stage, 2)
    assert handle.result(PATIENCE) == "paid booked archived"
    second.stops()
    calls = [(words[1], int(words[2])) for words in stage.witness.lines("called")]
    assert calls == [
        ("charge", first.pid),
        ("book", first.pid),
        ("archive", first.pid),
        ("archive", second.pid),
    ]
    status = handle.status()
    assert status is not None and status.attempts == 2
