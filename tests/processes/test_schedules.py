"""Schedules in several processes, some of them killed: every firing once, none left out, whoever is there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from taquba_workflow_sync import Queue, RunSpec, TerminalStatus, WorkflowClient
from tests.processes.harness import Stage
from tests.support import PATIENCE, wait_until

SECOND = timedelta(seconds=1)
SPEC = RunSpec(headers={"plan": "go"})


def moments(client: WorkflowClient) -> list[datetime]:
    """When the schedule has fired, by the names of its runs, in the order they were submitted."""
    names = [run.run_id for run in client.list_runs(limit=10_000).runs]
    return [datetime.strptime(name, "s-%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) for name in names]


def fires_on(client: WorkflowClient, many: int) -> None:
    wanted = len(moments(client)) + many
    wait_until(lambda: len(moments(client)) >= wanted, f"{many} more firings")


def test_two_workers_of_which_one_is_killed_fire_each_moment_once(stage: Stage, client: WorkflowClient) -> None:
    client.schedule("s", every=SECOND, spec=SPEC, catch_up="all")
    first, second = stage.worker(), stage.worker()
    fires_on(client, 2)
    stage.kill(first)
    fires_on(client, 2)
    third = stage.worker()
    stage.kill(second)
    fires_on(client, 2)
    client.pause_schedule("s")
    fired = moments(client)
    assert fired == [fired[0] + number * SECOND for number in range(len(fired))], "none twice, none left out"
    for run in client.list_runs(limit=10_000).runs:
        assert client.wait(run.run_id, PATIENCE).status is TerminalStatus.SUCCEEDED
    third.stops()
    stage.witness.assert_never_side_by_side()


def test_what_became_due_while_nobody_was_there_is_fired_by_who_comes_next(
    stage: Stage, client: WorkflowClient
) -> None:
    client.schedule("s", every=SECOND, spec=SPEC, catch_up="all")
    worker = stage.worker()
    fires_on(client, 1)
    stage.kill(worker)
    after_the_kill = len(moments(client))
    due = client.schedules()[0].next_at
    assert due is not None
    wait_until(lambda: datetime.now(UTC) > due + 2 * SECOND, "two moments that nobody is there for")
    assert len(moments(client)) == after_the_kill
    stage.worker()
    fires_on(client, 3)
    fired = moments(client)
    assert fired == [fired[0] + number * SECOND for number in range(len(fired))]


def test_a_schedule_defined_in_another_process_is_fired_by_a_worker_that_runs(stage: Stage, queue: Queue) -> None:
    stage.worker()
    client = WorkflowClient(queue)
    client.schedule("s", every=SECOND, spec=SPEC)
    fires_on(client, 1)
    run = client.list_runs().runs[0]
    assert client.wait(run.run_id, PATIENCE).status is TerminalStatus.SUCCEEDED
