"""A runtime on a disk that is full for a while: what its steps came to is stored later, and nothing is done twice."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, RunOutcome, StorageError, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.queue.dispatch import dispatcher
from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim
from tests.faults.checker import check
from tests.faults.disk.volume import Volume
from tests.faults.journal import Event, Journal, read
from tests.faults.lab import LabRunner, hook_of, open_queue, register_hook, submit
from tests.support import PATIENCE, wait_until

STEPS = "workflow-steps"


class FullDisk:
    """A store on the small volume, its log elsewhere, and a runner that can be held after it has done its work."""

    def __init__(self, volume: Volume, log: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.volume = volume
        self.root = volume.place / "store"
        self.journal = Journal(log)
        self.gate = threading.Event()
        self.hook_gate = threading.Event()
        self.hook_gate.set()
        self.done = threading.Semaphore(0)
        self.tokens: list[threading.Event] = []
        self._caplog = caplog

    def runtime(self, queue: Queue, **options: object) -> WorkflowRuntime:
        runner = LabRunner(self.journal)
        tell = hook_of(self.journal)

        def run(step):  # type: ignore[no-untyped-def]
            self.tokens.append(step.cancel_token)
            outcome = runner.run_step(step)
            self.done.release()
            self.gate.wait(2 * PATIENCE)
            return outcome

        def hook(outcome: RunOutcome) -> None:
            tell(outcome)
            self.done.release()
            self.hook_gate.wait(2 * PATIENCE)

        return WorkflowRuntime(queue, run, hook, **options)  # type: ignore[arg-type]

    def has_done(self, count: int = 1) -> None:
        """Wait until so many more steps and hooks have done their work."""
        for _ in range(count):
            assert self.done.acquire(timeout=PATIENCE), "nothing began"

    def logged(self, text: str) -> list[logging.LogRecord]:
        return [record for record in self._caplog.records if text in record.getMessage()]

    def has_failed(self, times: int) -> None:
        """Wait until the dispatcher says that it has failed so often in a row."""
        wait_until(lambda: self.logged(f"({times} in a row)"), f"{times} failures of the dispatcher")

    @property
    def events(self) -> list[Event]:
        return read(self.journal.path)

    def executions(self) -> Counter[tuple[str, int]]:
        return Counter((event["run"], event["step"]) for event in self.events if event["event"] == "begin")

    def check(self) -> None:
        check(self.root, self.events, is_idle=True).assert_clean()


@pytest.fixture
def scene(
    volume: Volume, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FullDisk]:
    monkeypatch.setattr(dispatcher, "_LONGEST_BACKOFF", 0.05)
    caplog.set_level(logging.INFO, "taquba_workflow_sync")
    scene = FullDisk(volume, tmp_path / "log", caplog)
    try:
        yield scene
    finally:
        scene.gate.set()
        scene.hook_gate.set()
        volume.give_back()
        scene.journal.close()


def test_what_steps_came_to_while_the_disk_was_full_is_stored_later_and_they_do_not_run_again(scene: FullDisk) -> None:
    with open_queue(scene.root) as queue:
        runtime = scene.runtime(queue, max_concurrent_steps=4)
        with runtime:
            for name in "abcd":
                assert submit(runtime, scene.journal, name, "go fail" if name == "a" else "go go")
            scene.has_done(4)
            scene.volume.fill()
            scene.gate.set()
            scene.has_failed(10)
            status = runtime.status("a")  # reads go on
            assert status is not None and status.state == "running"
            assert [run.run_id for run in runtime.list_runs().runs] == list("abcd")
            with pytest.raises(StorageError, match="full"):
                runtime.submit(run_id="e", headers={"plan": "go"})
            assert queue.stats(STEPS).claimed == 4
            scene.volume.give_back()
            outcomes = {name: runtime.wait(name, PATIENCE).status for name in "abcd"}
        assert outcomes == {"a": "failed", "b": "succeeded", "c": "succeeded", "d": "succeeded"}
        assert set(scene.executions().values()) == {1}
        assert queue.stats(STEPS).claimed == 0
    scene.check()


def test_a_hook_that_was_called_while_the_disk_was_full_is_not_called_again(scene: FullDisk) -> None:
    scene.gate.set()
    scene.hook_gate.clear()
    with open_queue(scene.root) as queue, scene.runtime(queue) as runtime:
        assert submit(runtime, scene.journal, "a", "go")
        scene.has_done(2)
        scene.volume.fill()
        scene.hook_gate.set()
        scene.has_failed(5)
        scene.volume.give_back()
        wait_until(lambda: queue.stats(f"{STEPS}.terminal").claimed == 0, "the end of the notification")
    assert [event["event"] for event in scene.events].count("hook") == 1
    scene.check()


def test_a_runtime_stopped_on_a_full_disk_ends_and_the_next_one_repeats_the_step(
    scene: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_LAST_TRIES", 0.2)
    with open_queue(scene.root) as queue:
        runtime = scene.runtime(queue)
        runtime.start()
        assert submit(runtime, scene.journal, "a", "go go")
        scene.has_done()
        scene.volume.fill()
        scene.gate.set()
        assert runtime.stop(PATIENCE)
        assert scene.logged("1 settlements could not be stored; the steps will run again elsewhere")
    scene.volume.give_back()
    with open_queue(scene.root) as queue:
        scene.runtime(queue).run_until_idle(PATIENCE)
    assert scene.executions() == {("a", 0): 2, ("a", 1): 1}
    scene.check()


def test_a_runtime_stopped_on_a_full_disk_and_started_again_takes_its_own_claims_back(
    scene: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handle stays open, so its owner lives, and nobody else may take them."""
    monkeypatch.setattr(dispatcher, "_LAST_TRIES", 0.2)
    with open_queue(scene.root) as queue:
        runtime = scene.runtime(queue)
        runtime.start()
        assert submit(runtime, scene.journal, "a", "go go")
        scene.has_done()
        scene.volume.fill()
        scene.gate.set()
        assert runtime.stop(PATIENCE)
        scene.volume.give_back()
        with runtime:
            assert runtime.wait("a", PATIENCE).status == "succeeded"
    scene.check()


def test_the_notification_of_an_inline_hook_that_could_not_be_settled_is_not_held_for_ever(scene: FullDisk) -> None:
    """``cancel`` calls the hook itself; the disk is full once the hook has been told."""
    told: list[str] = []

    def hook(outcome: RunOutcome) -> None:
        told.append(outcome.run_id)
        if len(told) == 1:
            scene.volume.fill()

    with open_queue(scene.root) as queue:
        runtime = WorkflowRuntime(queue, LabRunner(scene.journal), hook)
        runtime.submit(run_id="a", headers={"plan": "go"})
        assert runtime.cancel("a")
        assert told == ["a"]
        scene.volume.give_back()
        with runtime:
            wait_until(lambda: queue.stats(f"{STEPS}.terminal").claimed == 0, "the end of the notification")


def is_overdue(queue: Queue, job_id: str) -> bool:
    job = queue.get_job(job_id)
    assert job is not None and job.lease_expires_at is not None
    return datetime.now(UTC) > job.lease_expires_at


def test_a_claim_outlives_renewals_that_fail(scene: FullDisk) -> None:
    """For several leases nothing can be renewed; nobody takes the claim, its step is told nothing, and it counts."""
    with open_queue(scene.root, lease_duration=0.3) as queue, open_queue(scene.root) as other:
        runtime = scene.runtime(queue)
        with runtime:
            job_id = submit(runtime, scene.journal, "a", "go")
            assert job_id is not None
            scene.has_done()
            scene.volume.fill()
            wait_until(lambda: len(scene.logged("heartbeat failed")) >= 5, "renewals that fail")
            wait_until(lambda: is_overdue(other, job_id), "a lease that is over")
            assert not other.handle.store.abandoned_claims()
            scene.volume.give_back()
            wait_until(lambda: not is_overdue(other, job_id), "a renewal")
            assert not scene.tokens[0].is_set()
            scene.gate.set()
            assert runtime.wait("a", PATIENCE).status == "succeeded"
    assert scene.executions() == {("a", 0): 1}
    scene.check()


def test_a_checkpoint_that_finds_no_room_loses_nothing_and_is_made_up_for(scene: FullDisk) -> None:
    """The log is full of what the database has no room for; with room again it is moved and shrinks."""
    queue = open_queue(scene.root, checkpoint_bytes=64 << 10)
    log = scene.root / "db" / "cache.db-wal"
    database = scene.root / "db" / "cache.db"
    acknowledged: list[str] = []
    while not acknowledged or log.stat().st_size < 32 << 10:
        acknowledged.append(queue.enqueue("bare", bytes(2000)))
    size = database.stat().st_size
    scene.volume.fill(leaving=16)  # the log grows to its threshold; what it holds is more than the database has
    with pytest.raises(StorageError, match="full"):
        while True:
            acknowledged.append(queue.enqueue("bare", bytes(2000)))
    assert scene.logged("checkpoint failed, the WAL keeps growing") or database.stat().st_size > size
    assert [job.id for job in queue.list_jobs("bare", limit=1000).jobs] == acknowledged
    queue.close()  # returns; SQLite's own last checkpoint fails as well
    scene.volume.give_back()
    with open_queue(scene.root, checkpoint_bytes=64 << 10) as queue:
        acknowledged.append(queue.enqueue("bare", bytes(2000)))
        assert [job.id for job in queue.list_jobs("bare", limit=1000).jobs] == acknowledged
    check(scene.root, [], is_idle=False).assert_clean()
    assert not log.exists()


def test_a_runtime_that_starts_on_a_full_disk_begins_when_there_is_room(scene: FullDisk) -> None:
    scene.gate.set()
    with open_queue(scene.root) as queue:
        runtime = scene.runtime(queue)
        register_hook(queue, scene.journal)
        assert submit(WorkflowClient(queue), scene.journal, "a", "go go")
        scene.volume.fill()
        with runtime:
            scene.has_failed(5)
            scene.volume.give_back()
            assert runtime.wait("a", PATIENCE).status == "succeeded"
    assert set(scene.executions().values()) == {1}
    scene.check()


def test_what_is_past_its_retention_is_swept_when_there_is_room(scene: FullDisk) -> None:
    """A run that is not kept stays for a minute, invisible, so this looks at a bare job."""
    with open_queue(scene.root, keep_done_jobs=0.001) as queue:
        queue.enqueue("bare", b"x", job_id="j")
        claim = queue.claim("bare")
        assert claim is not None
        queue.ack(claim)
        runtime = scene.runtime(queue)
        register_hook(queue, scene.journal)
        scene.volume.fill()
        with runtime:
            scene.has_failed(1)
            assert queue.get_job("j") is not None
            scene.volume.give_back()
            wait_until(lambda: queue.get_job("j") is None, "the sweep")
    check(scene.root, [], is_idle=False).assert_clean()


def test_a_disk_that_was_full_for_ten_leases_frees_no_live_claim(
    scene: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could renew: the process that watches learns so when it cannot write either, and watches anew."""
    with open_queue(scene.root) as queue, open_queue(scene.root) as other:
        assert submit(WorkflowClient(queue), scene.journal, "a", "go")
        lane = (LaneClaim(STEPS, 100),)
        _, [claim] = queue.handle.store.settle_and_claim(
            (), [ClaimRequest(lane, 1)]
        )  # as if its step ran in another process
        scene.volume.fill()
        wait_until(lambda: is_overdue(queue, claim.id), "a lease that is over")
        now = [0.0]
        monkeypatch.setattr(other.handle.store._claims.watch, "_monotonic", lambda: now[0])  # type: ignore[attr-defined]
        while not (abandoned := other.handle.store.abandoned_claims()):
            now[0] += 0.1  # the lease
        assert now[0] >= 1
        with pytest.raises(StorageError, match="full"):
            other.handle.store.settle_and_claim((), [ClaimRequest(lane, 1, abandoned=abandoned)])
        assert not other.handle.store.abandoned_claims()
        scene.volume.give_back()
        queue.handle.store.renew([claim.token], 60_000)
        assert not other.handle.store.abandoned_claims()
