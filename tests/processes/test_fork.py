"""A store opened before a fork works in parent and children, and every acknowledged submit is there."""

from __future__ import annotations

import os

import pytest

from taquba_workflow_sync import Queue, WorkflowClient, WorkflowRuntime
from tests.processes.harness import Stage
from tests.processes.plans import PlannedRunner, planned
from tests.support import PATIENCE, wait_until


def stored(queue: Queue) -> list[str]:
    client = WorkflowClient(queue)
    runs: list[str] = []
    cursor = None
    while True:
        page = client.list_runs(limit=1000, cursor=cursor)
        runs += [run.run_id for run in page.runs]
        cursor = page.next_cursor
        if cursor is None:
            return runs


def assert_every_acknowledged_run_is_stored(stage: Stage, least: int) -> None:
    acknowledged = [words[0] for words in stage.witness.lines("ack")]
    assert len(acknowledged) >= least
    with Queue.open(stage.store) as queue:
        found = stored(queue)
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found), f"lost: {sorted(set(acknowledged) - set(found))[:10]}"


@pytest.mark.parametrize(
    ("scenario", "least"),
    [
        ("both_go_on", 80),
        ("grandchildren", 40),
        ("under_load", 60),
        ("two_threads_fork_at_once", 32),
        ("with_multiprocessing", 40),
    ],
)
def test_what_parent_and_children_submit_is_all_there(stage: Stage, scenario: str, least: int) -> None:
    stage.forking(scenario).ends_well()
    assert_every_acknowledged_run_is_stored(stage, least)


def test_a_child_goes_on_after_its_parent_has_closed_the_store(stage: Stage) -> None:
    program = stage.forking("parent_closes_first")
    program.hear("child-works")
    program.tell("go on")
    program.ends_well()
    assert_every_acknowledged_run_is_stored(stage, 60)


def test_a_child_begins_after_its_parent_has_closed_the_store(stage: Stage) -> None:
    program = stage.forking("parent_closes_first_and_the_child_was_idle")
    program.hear("parent-closed")
    program.tell("begin")
    program.ends_well()
    assert_every_acknowledged_run_is_stored(stage, 50)


def test_a_child_goes_on_after_its_parent_has_gone(stage: Stage) -> None:
    program = stage.forking("parent_exits_first")
    program.hear("child-done")
    program.ends_well()
    assert_every_acknowledged_run_is_stored(stage, 60)


def test_ids_never_collide_over_200_forks(stage: Stage) -> None:
    stage.forking("ids").ends_well()


def test_a_runtime_of_the_parent_does_not_run_in_the_child_and_can_be_started_there(stage: Stage) -> None:
    program = stage.forking("runtime_runs_in_the_parent_only")
    parent = int(program.hear("parent")[0])
    program.hear("parent-may-stop")
    program.tell("stop")
    child = int(program.hear("child")[0])
    program.ends_well()
    ran = {attempt.run: attempt.pid for attempt in stage.witness.attempts()}
    assert ran == {"by-parent": parent, "from-child": parent, "by-child": child}
    assert len(stage.witness.attempts()) == 6


def test_a_child_that_leaves_the_parents_with_blocks_harms_nothing(stage: Stage) -> None:
    program = stage.forking("child_never_stops_what_it_inherited")
    program.ends_well()
    assert [(each.run, each.step, each.pid) for each in stage.witness.attempts()] == [
        ("first", 0, program.pid), ("second", 0, program.pid), ("second", 1, program.pid),
    ]  # fmt: skip


def test_forks_beside_a_busy_runtime_lose_and_double_no_step(stage: Stage) -> None:
    program = stage.forking("forks_beside_a_busy_runtime")
    program.ends_well()
    assert_every_acknowledged_run_is_stored(stage, 20)
    attempts = stage.witness.attempts()
    assert len(attempts) == 40 * 3 + 20
    assert {(each.attempt, each.pid) for each in attempts} == {(1, program.pid)}


def look_for_dead_owners(queue: Queue, stage: Stage, times: int = 3) -> None:
    """Look as a worker that starts does, and find that the claim's owner lives."""
    for _ in range(times):
        counts = WorkflowRuntime(queue, PlannedRunner(stage.witness)).run_until_idle(timeout=PATIENCE)
        assert counts.elsewhere == 1, "the claim was taken from its living owner"


def test_no_childs_end_frees_its_parents_claims(stage: Stage) -> None:
    program = stage.forking("children_beside_a_claim")
    program.hear("children-gone")
    with Queue.open(stage.store) as queue:
        look_for_dead_owners(queue, stage)
        stage.let_go("held")
        program.tell("end")
        assert WorkflowClient(queue).wait("held", timeout=PATIENCE).result == f" 0 by {program.pid}".encode()
    assert [(each.attempt, each.pid) for each in stage.witness.attempts("held")] == [(1, program.pid)]


def test_a_parents_death_frees_its_claims_though_a_child_lives(stage: Stage) -> None:
    program = stage.forking("children_beside_a_claim")
    program.hear("children-gone")
    with Queue.open(stage.store) as queue:
        look_for_dead_owners(queue, stage, times=1)
        stage.kill(program)
        stage.let_go("held")
        counts = WorkflowRuntime(queue, PlannedRunner(stage.witness)).run_until_idle(timeout=PATIENCE)
        assert (counts.steps, counts.elsewhere) == (1, 0)
        assert WorkflowClient(queue).wait("held", timeout=PATIENCE).result == f" 0 by {os.getpid()}".encode()
    assert program.is_heard, "the child that stays was there all the time"


def test_a_fork_inside_a_step_works(stage: Stage) -> None:
    program = stage.forking("fork_inside_a_step")
    program.ends_well()
    assert_every_acknowledged_run_is_stored(stage, 12)
    assert len(stage.witness.attempts()) == 6 + 12
    assert {(each.attempt, each.pid) for each in stage.witness.attempts()} == {(1, program.pid)}


def test_an_application_loaded_before_its_workers_were_forked_serves_in_each(stage: Stage) -> None:
    program = stage.forking("preload")
    workers = {int(program.hear("serving")[0]) for _ in range(3)}
    with Queue.open(stage.store) as queue:
        client = WorkflowClient(queue)
        handles = client.submit_many([planned(f"r{number}", "nap:0.02 nap:0.02") for number in range(30)])
        for handle in handles:
            handle.result(timeout=PATIENCE)
        client.wait("preload-0", timeout=PATIENCE)
    program.tell("stop")
    program.ends_well()
    assert len(stage.witness.attempts()) == 61
    assert set(stage.witness.pids()) == workers, "each worker took some"


def test_an_exclusive_handles_child_is_refused_while_the_parent_lives(stage: Stage) -> None:
    program = stage.forking("exclusive")
    program.hear("refused")
    program.hear("parent-closed")
    program.tell("your turn")
    program.hear("child-has-it")
    program.ends_well()
    with Queue.open(stage.store) as queue:
        assert stored(queue) == ["before-0", "parent-0", "child-0"]


def test_a_child_never_removes_the_temporary_store_of_its_parent(stage: Stage) -> None:
    stage.forking("temporary").ends_well()


def test_the_next_process_cleans_up_behind_the_children(stage: Stage) -> None:
    """Each child that used the store was an owner of its own; none leaves a lock file for ever."""
    stage.forking("under_load").ends_well()
    with Queue.open(stage.store):
        wait_until(lambda: len(list((stage.store / "owners").iterdir())) == 1, "only the living owner's lock file")
