"""How a process ends: forgotten runtimes, signals, steps that never return."""

from __future__ import annotations

import signal

import pytest

from taquba_workflow_sync import Queue, RunState, WorkflowClient, WorkflowRuntime
from tests.processes.harness import Stage
from tests.processes.plans import PlannedRunner, planned
from tests.support import PATIENCE, wait_until


def test_a_forgotten_idle_runtime_does_not_keep_the_interpreter(stage: Stage) -> None:
    program = stage.exiting("forgotten_idle")
    program.hear("result")
    program.ends_well()


@pytest.mark.parametrize(
    ("scenario", "code"),
    [("forgotten_busy", 0), ("forgotten_busy_and_a_queue_closed", 0), ("raises_while_busy", 3)],
)
def test_a_forgotten_busy_runtime_ends_and_leaves_no_claim_behind(
    stage: Stage, queue: Queue, client: WorkflowClient, scenario: str, code: int
) -> None:
    program = stage.exiting(scenario)
    assert program.ended() == code, program.errors
    assert program.errors == ""
    stats = queue.stats("workflow-steps")
    assert stats.pending > 2000, "it was in the middle of its backlog"
    assert stats.claimed == 0, "what it had claimed is settled or released"
    # Each execution that ended was stored: nothing is repeated by the next process.
    done = stage.witness.attempts()
    assert len({(each.run, each.step) for each in done}) == len(done)
    assert {each.attempt for each in done} == {1}
    first = next(each for each in done if each.step == 0)
    status = client.status(first.run)
    assert status is not None
    assert status.current_step == 1 + max(each.step for each in done if each.run == first.run)
    assert status.attempts == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_the_worker(stage: Stage, queue: Queue, client: WorkflowClient, number: signal.Signals) -> None:
    worker = stage.worker("--concurrency", 1)
    client.submit(planned("running", "hold go"))
    stage.began("running", 0)
    client.submit(planned("waiting", "go"))
    worker.signal(number)
    wait_until(lambda: worker.process.poll() is None and not stage.witness.lines("end"), "it waits for its step")
    stage.let_go("running")
    worker.ends_well()
    assert stage.witness.steps("running") == [0]
    status = client.status("running")
    assert status is not None
    assert (status.current_step, status.state, status.attempts) == (1, RunState.PENDING, 0)
    assert stage.witness.steps("waiting") == []
    stats = queue.stats("workflow-steps")
    assert (stats.pending, stats.claimed) == (2, 0)


def test_a_second_signal_changes_nothing_while_it_drains(stage: Stage, client: WorkflowClient) -> None:
    worker = stage.worker()
    client.submit(planned("r", "hold go"))
    stage.began("r", 0)
    for _ in range(5):
        worker.signal(signal.SIGTERM)
    stage.let_go("r")
    worker.ends_well()
    status = client.status("r")
    assert status is not None and status.current_step == 1


def test_an_interrupted_bare_worker_finishes_its_job_first(stage: Stage, queue: Queue) -> None:
    first, second = queue.enqueue_batch("mail", [b"hold", b"hold"])
    worker = stage.exiting("bare_worker")
    assert worker.hear("processing") == [first]
    worker.signal(signal.SIGINT)
    (stage.directory / "go-bare").touch()
    worker.hear("interrupted")
    worker.ends_well()
    assert stage.witness.lines("processed") == [[first]]
    assert queue.get_job(first) is None
    job = queue.get_job(second)
    assert job is not None and job.attempts == 0


def test_an_event_set_by_a_signal_handler_ends_the_run(stage: Stage) -> None:
    program = stage.exiting("run_with_an_event")
    program.hear("running")
    program.signal(signal.SIGTERM)
    program.hear("returned")
    program.ends_well()


def test_thousands_of_signals_that_touch_the_event_deadlock_nothing(stage: Stage) -> None:
    program = stage.exiting("run_under_a_storm_of_signals")
    program.hear("returned")
    program.ends_well()


def test_a_step_that_never_returns_bounds_the_stop_and_keeps_its_claim(stage: Stage, queue: Queue) -> None:
    program = stage.exiting("never_returns")
    is_over, took = program.hear("stopped")
    assert is_over == "False"
    assert 0.25 < float(took) < 3, "ten times the grace"
    is_over, took = program.hear("stopped-again")
    assert is_over == "False"
    assert float(took) < 3
    assert program.hear("state") == ["running"]
    program.hear("closed")
    runtime = WorkflowRuntime(queue, PlannedRunner(stage.witness))
    for _ in range(3):
        counts = runtime.run_until_idle(timeout=PATIENCE)
        assert (counts.steps, counts.elsewhere) == (0, 1), "its thread runs, so nobody may run it beside"
    program.tell("end")
    program.ends_well()
    stage.let_go("r")
    assert runtime.run_until_idle(timeout=PATIENCE).succeeded == 1
    assert [each.attempt for each in stage.witness.attempts("r")] == [1, 2]


def test_a_grace_bounds_a_run_that_a_signal_ends(stage: Stage) -> None:
    program = stage.exiting("graceful_run")
    stage.began("r", 0)
    program.signal(signal.SIGTERM)
    program.hear("returned", limit=10)
    program.ends_well()


def test_callers_interrupted_anywhere_leave_the_others_answered(stage: Stage, client: WorkflowClient) -> None:
    program = stage.exiting("interrupted_callers")
    number = int(program.hear("main-submitted")[0])
    program.ends_well()
    acknowledged = [words[0] for words in stage.witness.lines("ack")] + [f"main-{each}" for each in range(number)]
    for run in acknowledged:
        assert client.status(run) is not None, f"{run} was acknowledged and is not there"
