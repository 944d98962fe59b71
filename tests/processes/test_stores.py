"""One directory, many openers: exclusive ones, eight at once, readers beside killed writers, a deleted database."""

from __future__ import annotations

import shutil
import signal
import threading

import pytest

from taquba_workflow_sync import Queue, StoreInUseError, WorkflowClient, WorkflowRuntime
from tests.processes.harness import Stage
from tests.processes.plans import PlannedRunner, planned
from tests.support import PATIENCE, wait_until


def test_an_exclusive_handle_of_another_process_refuses_every_open_by_its_pid(stage: Stage) -> None:
    holder = stage.exiting("holds_a_handle", "exclusive")
    holder.hear("open")
    for exclusive in (False, True):
        with pytest.raises(StoreInUseError, match=rf"\b{holder.pid}\b"):
            Queue.open(stage.store, exclusive=exclusive)
    holder.tell("close")
    holder.ends_well()
    Queue.open(stage.store, exclusive=True).close()


def test_an_open_handle_of_another_process_refuses_an_exclusive_one_by_its_pid(stage: Stage) -> None:
    holder = stage.exiting("holds_a_handle")
    holder.hear("open")
    Queue.open(stage.store).close()
    with pytest.raises(StoreInUseError, match=rf"\b{holder.pid}\b"):
        Queue.open(stage.store, exclusive=True)
    holder.tell("close")
    holder.ends_well()
    Queue.open(stage.store, exclusive=True).close()


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_killed_holder_refuses_nobody(stage: Stage, exclusive: bool) -> None:
    holder = stage.exiting("holds_a_handle", *(["exclusive"] if exclusive else []))
    holder.hear("open")
    stage.kill(holder)
    Queue.open(stage.store, exclusive=True).close()
    Queue.open(stage.store).close()


def test_two_handles_of_one_process_are_two_owners_that_steal_nothing(stage: Stage) -> None:
    one, other = Queue.open(stage.store), Queue.open(stage.store)
    with WorkflowRuntime(one, PlannedRunner(stage.witness)) as runtime:
        handle = runtime.submit(planned("held", "hold"))
        stage.began("held", 0)
        beside = WorkflowRuntime(other, PlannedRunner(stage.witness))
        for _ in range(3):
            assert beside.run_until_idle(timeout=PATIENCE).elsewhere == 1
        assert beside.submit(planned("held", "hold")).newly_submitted is False
        waits = threading.Thread(target=beside.wait, args=("held", PATIENCE))
        waits.start()
        stage.let_go("held")
        handle.result(timeout=PATIENCE)
        waits.join(PATIENCE)
        assert not waits.is_alive(), "the other handle never heard"
    with pytest.raises(StoreInUseError):
        Queue.open(stage.store, exclusive=True)
    one.close()
    assert other.stats("workflow-steps").done == 1, "the other handle goes on"
    # A third process writes between: the locks of this one must still hold, though a handle of it was closed.
    stage.client("submit", "third", 3, "go", 3).ends_well()
    assert WorkflowClient(other).submit(planned("after", "go")).newly_submitted is True
    other.close()
    with Queue.open(stage.store, exclusive=True) as alone:
        assert alone.stats("workflow-steps").pending == 4
    assert len(stage.witness.attempts("held")) == 1


def test_eight_processes_that_open_a_new_store_at_once_all_succeed(stage: Stage) -> None:
    """Each has its interpreter and imports ready, and opens when its line comes."""
    openers = [stage.start("opener", number) for number in range(8)]
    for each in openers:
        each.hear("ready")
    for name in range(5):
        for each in openers:
            each.tell(name)
        for each in openers:
            each.hear("ready")
        with Queue.open(f"{stage.store}-{name}") as queue:
            runs = {run.run_id for run in WorkflowClient(queue).list_runs().runs}
        assert runs == {f"c{number}-0" for number in range(8)}
    for each in openers:
        each.hangs_up()
        each.ends_well()


def test_reads_go_on_while_writers_are_killed(stage: Stage, queue: Queue, client: WorkflowClient) -> None:
    acknowledged: list[str] = []
    for number in range(4):
        writer = stage.client("submit", f"w{number}", 400, "go", 3)
        heard = 0
        while heard < 15:
            writer.hear("acknowledged")
            heard += 1
            # Whatever instant of the writer's work this is, every kind of read answers, and of the past truly.
            last = writer.said("acknowledged")[-1][0]
            status = client.status(last)
            assert status is not None and status.run_id == last
            assert queue.stats("workflow-steps").pending >= len(acknowledged) + heard
            assert queue.get_job(status.job_id) is not None
            assert queue.attempt_history(status.job_id) == []
            assert client.list_runs(limit=5).runs
            assert queue.list_queues() == ["workflow-steps"]
        stage.kill(writer)
        writer.ended()
        acknowledged += [words[0] for words in writer.said("acknowledged")]
        for run in acknowledged:
            assert client.status(run) is not None, f"{run} was acknowledged before the kill"
    with Queue.open(stage.store) as fresh:
        assert fresh.stats("workflow-steps") == queue.stats("workflow-steps")


def test_a_database_deleted_under_a_worker_is_an_error_and_not_a_new_empty_one(stage: Stage) -> None:
    worker = stage.exiting("database_deleted_under_it")
    worker.hear("working")
    shutil.rmtree(stage.store)
    worker.tell("go on")
    assert worker.hear("submit") == ["StorageError"], "acknowledged, and stored nowhere"
    assert worker.hear("status") == ["StorageError"]
    assert worker.hear("enqueue") == ["StorageError"]
    assert worker.hear("open") == ["returned"], "another store is not concerned"
    assert not (stage.store / "db").exists()
    assert worker.hear("stopped") == ["True"]
    worker.ends_well()


def test_a_store_whose_worker_was_killed_again_and_again_does_not_fill_with_lock_files(stage: Stage) -> None:
    for _ in range(4):
        doomed = stage.worker()
        stage.kill(doomed)
    assert stage.children[-1].process.returncode == -signal.SIGKILL
    with Queue.open(stage.store):
        wait_until(lambda: len(list((stage.store / "owners").iterdir())) == 1, "only the living owner's lock file")
