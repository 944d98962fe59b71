"""kill -9 at any instant loses no submitted run and no committed step, and others go on at once."""

from __future__ import annotations

import random
import signal
import time
from datetime import timedelta
from itertools import pairwise

import pytest

from taquba_workflow_sync import (
    AttemptOutcome,
    JobStatus,
    Queue,
    RunState,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from tests.processes.harness import Attempt, Child, Stage
from tests.processes.plans import PlannedRunner, planned
from tests.support import PATIENCE, wait_until

# A second is promised; ten times that. The leases of these workers last an hour.
TAKEOVER = 10.0


def result_of(client: WorkflowClient, run: str) -> str:
    """Wait for the run's success and return the steps it went through."""
    outcome = client.wait(run, timeout=PATIENCE)
    assert outcome.status is TerminalStatus.SUCCEEDED, outcome
    return (outcome.result or b"").decode().partition(" by ")[0].strip()


def test_a_worker_killed_in_the_middle_of_a_step_repeats_that_step_only(stage: Stage, client: WorkflowClient) -> None:
    client.submit(planned("r", "go go hold-once go"))
    first = stage.worker()
    stage.began("r", 2)
    stage.kill(first)
    stage.worker()
    assert result_of(client, "r") == "0 1 2 3"
    assert [(each.step, each.attempt) for each in stage.witness.attempts("r")] == [
        (0, 1), (1, 1), (2, 1), (2, 2), (3, 1),
    ]  # fmt: skip


def test_a_worker_killed_between_steps_repeats_none(stage: Stage, client: WorkflowClient) -> None:
    handle = client.submit(planned("r", "go later:1.5 go"))
    first = stage.worker()

    def waits_for_step_2() -> bool:
        status = handle.status()
        return status is not None and (status.current_step, status.state) == (2, RunState.PENDING)

    wait_until(waits_for_step_2, "the run between its steps")
    stage.kill(first)
    assert stage.witness.steps("r") == [0, 1]
    stage.worker()
    assert result_of(client, "r") == "0 1 2"
    assert [(each.step, each.attempt) for each in stage.witness.attempts("r")] == [(0, 1), (1, 1), (2, 1)]


def test_a_worker_killed_while_its_runs_wait_in_line_loses_none(stage: Stage, client: WorkflowClient) -> None:
    """One thread and many runs: those claimed ahead of their turn, if any are, go on elsewhere like the others."""
    runs = [f"r{number}" for number in range(20)]
    client.submit_many([planned(run, "hold-once" if run == "r3" else "go") for run in runs])
    first = stage.worker("--concurrency", 1)
    stage.began("r3", 0)
    stage.kill(first)
    stage.worker("--concurrency", 1)
    for run in runs:
        assert result_of(client, run) == "0"
        assert len(stage.witness.attempts(run)) == (2 if run == "r3" else 1), run


def test_a_storm_of_kills_loses_nothing_and_doubles_only_what_was_in_flight(
    stage: Stage, queue: Queue, client: WorkflowClient
) -> None:
    chance = random.Random(2)
    kills = 12
    plan = "nap:0.01 go nap:0.02 go nap:0.005 go"
    clients: list[Child] = []

    def start_client() -> None:
        clients.append(stage.client("submit", f"c{len(clients)}", 0, plan, 1000))

    workers = [stage.worker() for _ in range(3)]
    start_client()
    for number in range(kills):
        # The next kill comes once the victim has work in hand, after a moment that chance picks.
        victim = chance.randrange(len(workers))
        wait_until(lambda: stage.witness.pids().get(workers[victim].pid), "work for the next victim")  # noqa: B023
        time.sleep(chance.uniform(0, 0.1))
        stage.kill(workers[victim])
        if number % 4 == 3:
            stage.kill(clients[-1])
            start_client()
        workers[victim] = stage.worker()
    stage.kill(clients[-1])

    for each in clients:
        each.ended()
    acknowledged = [words[0] for each in clients for words in each.said("acknowledged")]
    assert len(acknowledged) > kills
    for run in acknowledged:
        assert result_of(client, run) == "0 1 2 3 4 5", run

    killed = {int(words[0]) for words in stage.witness.lines("kill")}
    by_run: dict[str, list[Attempt]] = {}
    for attempt in stage.witness.attempts():
        by_run.setdefault(attempt.run, []).append(attempt)
    for run in acknowledged:
        attempts = by_run[run]
        assert sorted({each.step for each in attempts}) == [0, 1, 2, 3, 4, 5]
        for before, after in pairwise(attempts):
            if after.step == before.step:
                assert before.pid in killed, f"{run} repeated step {before.step} although nothing had happened to it"
                assert after.attempt > before.attempt, f"{run} was not charged for the attempt that was killed"
            else:
                assert after.step == before.step + 1, f"{run} went from step {before.step} to {after.step}"
    stage.witness.assert_never_side_by_side()
    assert len(killed) == kills + len(clients)
    stats = queue.stats("workflow-steps")
    wait_until(lambda: queue.stats("workflow-steps").claimed == 0, "the end of every claim")
    assert stats.dead == 0
    for worker in workers:
        worker.stops()


def test_a_step_that_kills_its_process_every_time_ends_as_a_dead_letter(
    stage: Stage, queue: Queue, client: WorkflowClient
) -> None:
    handle = client.submit(planned("poison", "die", max_attempts=3))
    for _ in range(3):
        assert stage.worker().ended() == -signal.SIGKILL
    last = stage.worker()
    outcome = client.wait("poison", timeout=PATIENCE)
    assert outcome.status is TerminalStatus.FAILED
    assert "out of attempts (3 of 3)" in str(outcome.error)
    assert [each.attempt for each in stage.witness.attempts("poison")] == [1, 2, 3]
    assert [each.id for each in queue.dead_jobs("workflow-steps").jobs] == [handle.first_job_id]
    assert [each.outcome for each in queue.attempt_history(handle.first_job_id)] == [AttemptOutcome.REAPED] * 3
    client.submit(planned("after", "go"))
    assert result_of(client, "after") == "0"
    last.stops()


def test_a_living_process_takes_over_long_before_the_lease_ends(stage: Stage, client: WorkflowClient) -> None:
    client.submit(planned("r", "hold-once"))
    doomed = stage.worker()
    stage.began("r", 0)
    heir = stage.worker()
    stage.kill(doomed)
    began = time.monotonic()
    assert stage.began("r", 0, attempt=2).pid == heir.pid
    assert time.monotonic() - began < TAKEOVER
    assert result_of(client, "r") == "0"


def test_the_next_process_that_starts_takes_over_at_once(stage: Stage, client: WorkflowClient) -> None:
    client.submit(planned("r", "hold-once"))
    doomed = stage.worker()
    stage.began("r", 0)
    stage.kill(doomed)
    began = time.monotonic()
    heir = stage.worker()
    assert stage.began("r", 0, attempt=2).pid == heir.pid
    assert time.monotonic() - began < TAKEOVER
    assert result_of(client, "r") == "0"


def test_a_cron_job_takes_over_what_a_killed_process_left(stage: Stage, queue: Queue, client: WorkflowClient) -> None:
    client.submit(planned("r", "go hold-once go"))
    doomed = stage.worker()
    stage.began("r", 1)
    alive = WorkflowRuntime(queue, PlannedRunner(stage.witness)).run_until_idle(timeout=PATIENCE)
    assert (alive.steps, alive.elsewhere) == (0, 1), "its owner lives"
    stage.kill(doomed)
    counts = WorkflowRuntime(queue, PlannedRunner(stage.witness)).run_until_idle(timeout=PATIENCE)
    assert (counts.succeeded, counts.steps, counts.elsewhere) == (1, 2, 0)


def test_a_bare_claim_takes_over_the_job_of_a_killed_worker(stage: Stage, queue: Queue) -> None:
    job = queue.enqueue("mail", b"hold")
    doomed = stage.exiting("bare_worker")
    doomed.hear("processing")
    assert queue.claim("mail") is None
    stage.kill(doomed)
    claim = queue.claim_with_wait("mail", TAKEOVER)
    assert claim is not None
    assert (claim.job.id, claim.job.attempts) == (job, 2)
    queue.ack(claim)


def test_cancelling_a_run_whose_process_was_killed_ends_it_at_once(stage: Stage, client: WorkflowClient) -> None:
    client.submit(planned("r", "hold"))
    doomed = stage.worker()
    stage.began("r", 0)
    stage.kill(doomed)
    assert client.cancel("r") is True
    outcome = client.outcome("r")
    assert outcome is not None and outcome.status is TerminalStatus.CANCELLED


def test_a_cancellation_survives_the_kill_of_the_process_that_was_to_obey(stage: Stage, client: WorkflowClient) -> None:
    client.submit(planned("r", "nap:600"))
    doomed = stage.worker()
    stage.began("r", 0)
    assert client.cancel("r") is True
    stage.kill(doomed)
    stage.worker()
    assert client.wait("r", timeout=PATIENCE).status is TerminalStatus.CANCELLED
    assert len(stage.witness.attempts("r")) == 1


# -- terminal hooks ------------------------------------------------------------------------------------------------


def waiting_notifications(queue: Queue) -> int:
    return queue.stats("workflow-steps.terminal").pending


@pytest.mark.parametrize("way", ["die", "hang"])
def test_a_hook_killed_before_it_returned_is_called_again_by_the_next_process_that_has_it(
    stage: Stage, queue: Queue, client: WorkflowClient, way: str
) -> None:
    client.submit(planned("r", "go go"))
    doomed = stage.worker("--hook", way)
    assert client.wait("r", timeout=PATIENCE).status is TerminalStatus.SUCCEEDED
    wait_until(lambda: stage.witness.lines("hook-began"), "the hook's beginning")
    if way == "hang":
        stage.kill(doomed)
    doomed.ended()

    without = stage.worker()
    client.submit(planned("other", "go"))
    assert result_of(client, "other") == "0", "the process without the hook works"
    assert stage.witness.lines("hook") == []
    without.stops()

    stage.worker("--hook", "tell")
    wait_until(lambda: len(stage.witness.lines("hook")) == 2, "both outcomes told")
    told = {words[0]: words[1:3] for words in stage.witness.lines("hook")}
    assert told == {"r": ["succeeded", "1"], "other": ["succeeded", "1"]}
    assert stage.witness.steps("r") == [0, 1], "the run itself is over"
    lane = "workflow-steps.terminal"
    wait_until(lambda: queue.stats(lane).claimed + queue.stats(lane).pending == 0, "the end of both notifications")


def test_a_run_that_a_reaper_without_the_hook_ends_notifies_a_process_with_it_later(
    stage: Stage, queue: Queue, client: WorkflowClient
) -> None:
    client.submit(planned("r", "die", max_attempts=1))
    assert stage.worker("--hook", "tell").ended() == -signal.SIGKILL
    without = stage.worker()
    assert client.wait("r", timeout=PATIENCE).status is TerminalStatus.FAILED
    client.submit(planned("other", "go"))
    assert result_of(client, "other") == "0"
    assert waiting_notifications(queue) == 2
    assert stage.witness.lines("hook") == []
    without.stops()
    assert waiting_notifications(queue) == 2, "a process without the hook takes none along as it ends"

    stage.worker("--hook", "tell")
    wait_until(lambda: len(stage.witness.lines("hook")) == 2, "both outcomes told")
    told = {words[0]: words[1:3] for words in stage.witness.lines("hook")}
    assert told == {"r": ["failed", "1"], "other": ["succeeded", "1"]}


def test_a_cancel_by_a_process_without_the_hook_notifies_one_with_it_later(
    stage: Stage, queue: Queue, client: WorkflowClient
) -> None:
    stage.worker("--hook", "tell").stops()
    client.submit(planned("r", "go"))
    assert stage.client("cancel", "r").hear("ready") == []
    stage.children[-1].tell("now")
    assert stage.children[-1].hear("cancelled")[0] == "True"
    stage.children[-1].ends_well()
    assert waiting_notifications(queue) == 1
    stage.worker("--hook", "tell")
    wait_until(lambda: stage.witness.lines("hook"), "the outcome told")
    assert stage.witness.lines("hook")[0][:3] == ["r", "cancelled", "1"]


def test_what_a_killed_process_left_is_visible_as_it_was(stage: Stage, queue: Queue, client: WorkflowClient) -> None:
    handle = client.submit(planned("r", "go hold-once"))
    doomed = stage.worker()
    stage.began("r", 1)
    stage.kill(doomed)
    job = queue.get_job(handle.first_job_id)
    assert job is not None and job.lease_expires_at is not None and job.claimed_at is not None
    assert (job.status, job.step, job.attempts) == (JobStatus.CLAIMED, 1, 1)
    # The lease goes on from step to step: it began with the claim of the first, after the submit.
    assert job.lease_expires_at - job.enqueued_at >= timedelta(seconds=3600)
