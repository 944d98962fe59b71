"""Several processes on one store: work done once, news that travels, and claims that only death or silence frees."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from taquba_workflow_sync import (
    AttemptOutcome,
    Queue,
    QueueConfig,
    RunSpec,
    RunState,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from tests.processes.harness import Child, Stage
from tests.processes.plans import PlannedRunner, planned
from tests.support import PATIENCE, wait_until

# Nothing but a commit of another process announces what these workers wait for.
NEVER_POLLS = ("--poll", 3600)
CANCEL_LIMIT = 2.5  # ten times the quarter of a second that is promised
WAKE_LIMIT = 5.0  # generous: the benchmarks measure the 25 ms


def test_three_workers_do_what_two_clients_submit_exactly_once_and_share_it(
    stage: Stage, client: WorkflowClient
) -> None:
    workers = [stage.worker("--concurrency", 2, *NEVER_POLLS) for _ in range(3)]
    clients = [stage.client("at_once", f"c{number}", 40, "nap:0.01 nap:0.01 nap:0.01") for number in range(2)]
    for each in clients:
        each.hear("ready")
    for each in clients:
        each.tell("go")
    for each in clients:
        each.ends_well()
    runs = [f"c{number}-{run}" for number in range(2) for run in range(40)]
    for run in runs:
        outcome = client.wait(run, timeout=PATIENCE)
        assert (outcome.result or b"").startswith(b" 0 1 2 by "), outcome
    attempts = stage.witness.attempts()
    assert sorted((each.run, each.step, each.attempt) for each in attempts) == [
        (run, step, 1) for run in sorted(runs) for step in range(3)
    ]
    stage.witness.assert_never_side_by_side()
    shares = stage.witness.pids()
    assert set(shares) == {worker.pid for worker in workers}, f"one got nothing: {shares}"
    for worker in workers:
        worker.stops()


def test_the_steps_of_a_run_go_from_process_to_process_in_order(stage: Stage, client: WorkflowClient) -> None:
    """Many runs and few threads, so that a run's next step is often taken by another process."""
    for _ in range(3):
        stage.worker("--concurrency", 1)
    handles = client.submit_many([planned(f"r{number}", "go " * 8) for number in range(8)])
    for handle in handles:
        handle.result(timeout=PATIENCE)
    for handle in handles:
        assert stage.witness.steps(handle.run_id) == list(range(8))
    processes = [[each.pid for each in stage.witness.attempts(handle.run_id)] for handle in handles]
    assert any(before != after for pids in processes for before, after in pairwise(pids))


def test_a_cancel_in_one_process_reaches_the_step_in_another_and_the_wait_in_a_third(
    stage: Stage, client: WorkflowClient
) -> None:
    worker = stage.worker(*NEVER_POLLS)
    client.submit(planned("r", "cancelled go"))
    stage.began("r", 0)
    canceller = stage.client("cancel", "r")
    canceller.hear("ready")
    waiter = stage.client("wait", "r")
    waiter.hear("waiting")
    canceller.tell("now")
    is_cancelled, asked = canceller.hear("cancelled")
    assert is_cancelled == "True"
    assert waiter.hear("outcome") == ["cancelled", "as", "asked"]
    (token,) = stage.witness.lines("token")
    assert token[:2] == ["r", str(worker.pid)]
    assert float(token[2]) - float(asked) < CANCEL_LIMIT
    assert stage.witness.steps("r") == [0]
    canceller.ends_well()
    waiter.ends_well()
    worker.stops()


def test_a_cancel_elsewhere_overrules_what_the_step_returns(stage: Stage, client: WorkflowClient) -> None:
    stage.worker()
    client.submit(planned("r", "hold go"))
    stage.began("r", 0)
    assert client.cancel("r") is True
    outcome = client.wait("r", timeout=PATIENCE)
    assert (outcome.status, outcome.error) == (TerminalStatus.CANCELLED, None)
    assert stage.witness.steps("r") == [0]


def test_an_idle_worker_wakes_for_a_submit_of_another_process(stage: Stage, client: WorkflowClient) -> None:
    worker = stage.worker(*NEVER_POLLS)
    client.submit(planned("warm", "go")).result(timeout=PATIENCE)
    time.sleep(1.2)  # past the second in which it looks more often; nothing is decided by this
    began = time.monotonic()
    client.submit(planned("r", "go"))
    assert stage.began("r", 0).pid == worker.pid
    assert time.monotonic() - began < WAKE_LIMIT
    worker.stops()


def test_an_idle_worker_wakes_when_what_another_process_scheduled_is_due(stage: Stage, client: WorkflowClient) -> None:
    stage.worker(*NEVER_POLLS)
    client.submit(planned("warm", "go")).result(timeout=PATIENCE)
    due = datetime.now(UTC) + timedelta(seconds=1)
    handle = client.submit(RunSpec(run_id="r", headers={"plan": "go"}, run_at=due))
    handle.result(timeout=PATIENCE)
    finished = handle.wait().finished_at
    assert due - timedelta(milliseconds=2) <= finished < due + timedelta(seconds=WAKE_LIMIT)


def test_a_wait_in_one_process_ends_with_the_run_in_another(stage: Stage, client: WorkflowClient) -> None:
    handle = client.submit(planned("r", "hold"))
    stage.worker(*NEVER_POLLS)
    waiter = stage.client("wait", "r")
    waiter.hear("waiting")
    stage.began("r", 0)
    stage.let_go("r")
    assert waiter.hear("outcome") == ["succeeded", "None"]
    assert handle.status() is not None


def test_a_bare_claim_waits_for_a_job_of_another_process(stage: Stage, queue: Queue) -> None:
    other = stage.exiting("enqueue_when_told")
    other.hear("ready")
    assert queue.claim_with_wait("mail", 0.05) is None
    other.tell("now")
    claim = queue.claim_with_wait("mail", PATIENCE)
    assert claim is not None and claim.job.payload == b"from elsewhere"
    queue.ack(claim)
    other.ends_well()


# -- whose claim is dead -------------------------------------------------------------------------------------------


def overdue_by(queue: Queue, job_id: str, seconds: float) -> bool:
    job = queue.get_job(job_id)
    assert job is not None and job.lease_expires_at is not None
    return datetime.now(UTC) >= job.lease_expires_at + timedelta(seconds=seconds)


def pause(stage: Stage, worker: Child) -> None:
    """Stop a worker outside of a transaction: inside, it would hold SQLite's write lock, and nobody could write."""

    def stops_without_the_lock() -> bool:
        worker.signal(signal.SIGSTOP)
        with closing(sqlite3.connect(stage.store / "db" / "cache.db", timeout=1, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError:
                worker.signal(signal.SIGCONT)
                return False
        return True

    wait_until(stops_without_the_lock, "a worker that stops while it writes nothing")


def test_a_worker_stopped_for_a_few_leases_keeps_its_step(stage: Stage, queue: Queue, client: WorkflowClient) -> None:
    handle = client.submit(planned("r", "hold"))
    paused = stage.worker("--lease", 0.5)
    stage.began("r", 0)
    other = stage.worker("--lease", 0.5)
    pause(stage, paused)
    # Two and a half leases after the last renewal: overdue, but by far less than the ten that prove nothing is coming.
    wait_until(lambda: overdue_by(queue, handle.first_job_id, 0.75), "an overdue lease")
    paused.signal(signal.SIGCONT)
    client.submit(planned("beside", "go")).result(timeout=PATIENCE)
    wait_until(lambda: not overdue_by(queue, handle.first_job_id, 0), "the lease renewed again")
    stage.let_go("r")
    assert handle.result(timeout=PATIENCE) == f" 0 by {paused.pid}".encode()
    assert [each.pid for each in stage.witness.attempts("r")] == [paused.pid]
    assert stage.witness.lines("token") == []
    paused.stops()
    other.stops()


@pytest.mark.parametrize("successor", ["done before", "at work"])
def test_a_worker_stopped_for_too_long_is_succeeded_and_fenced_off(
    stage: Stage, queue: Queue, client: WorkflowClient, successor: str
) -> None:
    handle = client.submit(planned("r", "zombie hold-once" if successor == "done before" else "zombie hold"))
    zombie = stage.worker("--lease", 0.2)
    stage.began("r", 0)
    heir = stage.worker("--lease", 0.2)
    pause(stage, zombie)
    # The heir does step 0 again (without waiting for a token this time), and holds on in step 1, or ends the run.
    assert stage.began("r", 0, attempt=2).pid == heir.pid
    stage.began("r", 1)
    if successor == "done before":
        stage.let_go("r")
        handle.result(timeout=PATIENCE)
    zombie.signal(signal.SIGCONT)
    wait_until(lambda: stage.witness.lines("token"), "the zombie's token")
    assert stage.witness.lines("token")[0][:2] == ["r", str(zombie.pid)]
    zombie.stops()  # its settlement is refused, and it drains like any other
    stage.let_go("r")
    assert handle.result(timeout=PATIENCE) == f" 0 1 by {heir.pid}".encode()
    assert [(each.step, each.attempt, each.pid) for each in stage.witness.attempts("r")] == [
        (0, 1, zombie.pid), (0, 2, heir.pid), (1, 1, heir.pid),
    ]  # fmt: skip
    outcomes = [each.outcome for each in queue.attempt_history(handle.first_job_id)]
    assert outcomes == [AttemptOutcome.REAPED, AttemptOutcome.CONTINUED, AttemptOutcome.SUCCEEDED]
    heir.stops()


def test_a_step_that_holds_the_gil_for_several_leases_is_not_run_twice(stage: Stage, client: WorkflowClient) -> None:
    handle = client.submit(planned("r", "hog:2.5"))
    hog = stage.worker("--lease", 0.8)
    stage.began("r", 0)
    other = stage.worker("--lease", 0.8)
    client.submit(planned("beside", "go")).result(timeout=PATIENCE)
    assert handle.result(timeout=PATIENCE) == f" 0 by {hog.pid}".encode()
    assert len(stage.witness.attempts("r")) == 1
    ((held, *_),) = stage.witness.lines("hogged")
    assert float(held) > 2 * 0.8, "the hog was too short to prove anything"
    hog.stops()
    other.stops()


def test_a_step_longer_than_its_lease_is_renewed_and_runs_once(
    stage: Stage, queue: Queue, client: WorkflowClient
) -> None:
    handle = client.submit(planned("r", "hold"))
    worker = stage.worker("--lease", 0.2)
    stage.began("r", 0)
    other = stage.worker("--lease", 0.2)

    def was_renewed_past_ten_leases() -> bool:
        job = queue.get_job(handle.first_job_id)
        assert job is not None and job.claimed_at is not None and job.lease_expires_at is not None
        return job.lease_expires_at - job.claimed_at > timedelta(seconds=2.5)

    wait_until(was_renewed_past_ten_leases, "renewals")
    stage.let_go("r")
    assert handle.result(timeout=PATIENCE) == f" 0 by {worker.pid}".encode()
    assert len(stage.witness.attempts("r")) == 1
    other.stops()


class SteppingClock:
    """A wall clock that somebody sets by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_steps_by_an_hour_steals_no_claim(stage: Stage, hours: int) -> None:
    clock = SteppingClock()
    with Queue.open(stage.store, clock=clock, default_config=QueueConfig(lease_duration=5)) as queue:
        runtime = WorkflowRuntime(queue, PlannedRunner(stage.witness))
        handle = runtime.submit(planned("r", "hold"))
        worker = stage.worker("--lease", 5)
        stage.began("r", 0)
        clock.ahead = timedelta(hours=hours)
        for _ in range(5):
            counts = runtime.run_until_idle(timeout=PATIENCE)
            assert (counts.steps, counts.elsewhere) == (0, 1), "stolen"
        with runtime:
            runtime.submit(planned("beside", "go go go")).result(timeout=PATIENCE)
        status = handle.status()
        assert status is not None and status.state is RunState.RUNNING
        stage.let_go("r")
        assert handle.result(timeout=PATIENCE) == f" 0 by {worker.pid}".encode()
        assert len(stage.witness.attempts("r")) == 1
        assert stage.witness.lines("token") == []
        worker.stops()
