"""Processes that stand still, all together or while one call holds the GIL: their claims are theirs when they go on."""

from __future__ import annotations

import random
import signal
from contextlib import suppress

from taquba_workflow_sync import Queue, WorkflowClient
from tests.processes.harness import Stage
from tests.processes.plans import planned
from tests.processes.test_several_processes import overdue_by, pause
from tests.support import PATIENCE, wait_until


def test_a_claim_seen_overdue_before_everybody_was_stopped_is_not_taken_when_everybody_goes_on(
    stage: Stage,
    queue: Queue,
    client: WorkflowClient,
) -> None:
    """The owner stands still first, so that the others begin to watch; then they stand still for ten leases, too.

    They wake up before it. What they have watched is what they were awake for.
    """
    lease = 0.6
    handle = client.submit(planned("r", "hold"))
    owner = stage.worker("--lease", lease)
    stage.began("r", 0)
    others = [stage.worker("--lease", lease) for _ in range(2)]
    pause(stage, owner)
    wait_until(lambda: overdue_by(queue, handle.first_job_id, 1.1), "two looks of each of the others")
    for each in others:
        pause(stage, each)
    wait_until(lambda: overdue_by(queue, handle.first_job_id, 11 * lease), "ten leases")
    for each in others:
        each.signal(signal.SIGCONT)
    # A chance to take it, well within what is left of the watch.
    beside = client.submit(planned("beside", "go go go"))
    with suppress(TimeoutError):
        beside.wait(timeout=1)
    owner.signal(signal.SIGCONT)
    wait_until(lambda: not overdue_by(queue, handle.first_job_id, 0), "the lease renewed")
    stage.let_go("r")
    assert handle.result(timeout=PATIENCE) == f" 0 by {owner.pid}".encode()
    assert [each.attempt for each in stage.witness.attempts("r")] == [1]
    assert stage.witness.lines("token") == []
    for each in (owner, *others):
        each.stops()


def test_all_processes_stopped_for_more_than_ten_leases_go_on_where_they_were(
    stage: Stage,
    queue: Queue,
    client: WorkflowClient,
) -> None:
    lease = 0.4
    chance = random.Random(1)
    workers = [stage.worker("--lease", lease, "--concurrency", 1) for _ in range(3)]
    handles = [client.submit(planned(f"r{number}", "hold go")) for number in range(3)]
    for handle in handles:
        stage.began(handle.run_id, 0)
    waiting = stage.client("wait", "r0")
    waiting.hear("waiting")
    everybody = [*workers, waiting]
    for each in chance.sample(everybody, len(everybody)):
        pause(stage, each)
    wait_until(lambda: all(overdue_by(queue, each.first_job_id, 11 * lease) for each in handles), "eleven leases")
    for each in chance.sample(everybody, len(everybody)):
        each.signal(signal.SIGCONT)
    for handle in handles:
        wait_until(lambda each=handle: not overdue_by(queue, each.first_job_id, 0), "a lease renewed")
        stage.let_go(handle.run_id)
    for handle in handles:
        handle.result(timeout=PATIENCE)
    assert waiting.hear("outcome") == ["succeeded", "None"]
    assert [each.attempt for each in stage.witness.attempts()] == [1] * 6
    stage.witness.assert_never_side_by_side()
    assert stage.witness.lines("token") == []
    for each in workers:
        each.stops()


def test_a_step_that_holds_the_gil_for_five_leases_is_not_run_by_two_others_that_watch(
    stage: Stage,
    client: WorkflowClient,
) -> None:
    lease = 0.6
    handle = client.submit(planned("r", f"hog:{5 * lease} go"))
    hog = stage.worker("--lease", lease, "--concurrency", 1)
    stage.began("r", 0)
    others = [stage.worker("--lease", lease) for _ in range(2)]
    handle.result(timeout=PATIENCE)
    assert [(each.step, each.attempt) for each in stage.witness.attempts("r")] == [(0, 1), (1, 1)]
    assert stage.witness.attempts("r")[0].pid == hog.pid
    ((held, *_),) = stage.witness.lines("hogged")
    assert float(held) >= 5 * lease
    for each in (hog, *others):
        each.stops()
