"""Worker processes below which the disk fails for a while: they live, do not spin, and go on without a restart."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, WorkflowClient
from tests.faults.disk.plant import TROUBLES, Plant, cpu_seconds
from tests.faults.disk.volume import Volume
from tests.faults.journal import read
from tests.faults.lab import open_queue, submit
from tests.processes.harness import Child
from tests.support import PATIENCE, wait_until


@pytest.fixture
def plant(volume: Volume, tmp_path: Path, needs_interposer: None) -> Iterator[Plant]:
    plant = Plant(volume, tmp_path)
    try:
        yield plant
    finally:
        plant.close()


def submit_all(plant: Plant, queue: Queue, plans: dict[str, str]) -> None:
    client = WorkflowClient(queue)
    for run, plan in plans.items():
        assert submit(client, plant.journal, run, plan)


@pytest.mark.parametrize("trouble", list(TROUBLES))
def test_a_worker_outlives_it_tries_again_in_measure_and_goes_on(plant: Plant, trouble: str) -> None:
    """Steps that ran through it are stored under their own claim: not one of them runs again."""
    worker = plant.worker("--concurrency", 4)
    with open_queue(plant.root) as queue:
        submit_all(plant, queue, dict.fromkeys("abcd", "nap:0.3 go"))
        for name in "abcd":
            plant.began(name, 0)
        with plant.recorder.rule(**TROUBLES[trouble]) as rule:
            burnt, begun = cpu_seconds(worker), time.monotonic()
            plant.has_failed(worker, 5)
            struck, failures, burnt = rule.injected, plant.failures(worker), cpu_seconds(worker) - burnt
            elapsed = time.monotonic() - begun
        client = WorkflowClient(queue)
        assert {client.wait(name, 2 * PATIENCE).status for name in "abcd"} == {"succeeded"}
    assert set(plant.executions().values()) == {1}
    # A failed turn may fail once for each of its settlements, reopen its connection, and look for the dead.
    assert struck <= 60 * failures, f"{struck} operations failed in {failures} turns"
    assert burnt < 3, f"{burnt} s of processor time in {failures} turns"
    assert elapsed > 0.5, "five turns failed without a pause"  # a slow machine only makes it more
    assert "Traceback" not in plant.log(worker), plant.log(worker)
    plant.settle().assert_clean()


@pytest.mark.parametrize("has_happened", [True, False], ids=["the data is out", "it is not"])
def test_killed_after_commits_whose_sync_failed_the_work_goes_to_its_end(plant: Plant, has_happened: bool) -> None:
    worker = plant.worker()
    with open_queue(plant.root) as queue:
        with plant.recorder.rule("fsync", "-wal", fails=errno.EIO, after=has_happened, pid=worker.pid) as rule:
            submit_all(plant, queue, dict.fromkeys("abcdef", "go nap:0.05 go"))
            rule.wait(injected=3)
            plant.kill(worker)
    plant.settle().assert_clean()


def test_while_renewals_fail_a_cancellation_by_another_process_still_reaches_the_step(plant: Plant) -> None:
    worker = plant.worker("--lease", 0.5)
    with open_queue(plant.root) as queue:
        submit_all(plant, queue, {"a": "linger"})
        plant.began("a", 0)
        with plant.recorder.rule("write", "-wal", fails=errno.EIO, pid=worker.pid) as rule:
            rule.wait(injected=3)
            assert WorkflowClient(queue).cancel("a")
            wait_until(lambda: [event for event in read(plant.journal.path) if event["event"] == "end"], "its end")
        assert WorkflowClient(queue).wait("a", PATIENCE).status == "cancelled"
    plant.settle().assert_clean()


def test_a_worker_that_cannot_open_its_store_says_so_and_ends(plant: Plant) -> None:
    with plant.recorder.rule("open", "cache.db", fails=errno.EIO):
        errors = plant.directory / "stderr"
        words = [plant.directory / "log", "worker", plant.root, plant.journal.path]
        child = Child("tests.faults.disk.talkative", words, errors=errors, environment=plant.recorder.environment())
        try:
            assert child.ended() == 1
            assert "StorageError: cannot open the store" in child.errors
        finally:
            child.destroy()
