"""What a dispatcher counts: of what its settlements have come to, in memory, and stored once a second."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import (
    Cancel,
    Continue,
    Fail,
    Histogram,
    PermanentFailure,
    Queue,
    QueueConfig,
    Step,
    StepError,
    StepOutcome,
    StorageError,
    Succeed,
    WorkflowRuntime,
    run_worker,
)
from taquba_workflow_sync.storage.embedded.writer import NotBegun, Writer
from taquba_workflow_sync.storage.port.meter import MOST_LABELS, OTHER_LABEL, Counting
from taquba_workflow_sync.testing import ManualClock
from tests.faults.lab import open_queue
from tests.support import PATIENCE, wait_until

STEPS = "workflow-steps"


def by_plan(step: Step) -> StepOutcome:
    """Do what the run's input says, a word a step."""
    word, _, rest = step.payload.decode().partition(" ")
    match word:
        case "go":
            return Continue(rest.encode(), label="packed")
        case "fail":
            return Fail("said so")
        case "cancel":
            return Cancel("enough")
        case "again" if step.attempts < 2:
            raise ValueError("not yet")
        case "later" if not step.payload.endswith(b"x"):
            raise StepError.permanent("never")
        case _:
            return Succeed()


def test_attempts_are_counted_by_outcome_and_label_and_runs_by_how_they_ended(queue: Queue) -> None:
    runtime = WorkflowRuntime(queue, by_plan)
    for plan in ("go go done", "again", "fail", "cancel", "later"):
        runtime.submit(input=plan.encode())
    runtime.run_until_idle(PATIENCE)
    metrics = queue.metrics().queues[STEPS]
    assert metrics.attempts == {
        ("", "continued"): 1,
        ("packed", "continued"): 1,
        ("packed", "succeeded"): 1,
        ("", "retried"): 1,
        ("", "succeeded"): 1,
        ("", "failed"): 1,
        ("", "cancelled"): 1,
        ("", "dead"): 1,
    }
    assert metrics.runs_finished == {"succeeded": 2, "failed": 2, "cancelled": 1}
    assert {label: each.count for label, each in metrics.step_duration.items()} == {"": 6, "packed": 2}
    assert metrics.submit_to_start.count == 5
    assert metrics.stats == queue.stats(STEPS)


def test_steps_that_are_put_back_are_counted_so(queue: Queue) -> None:
    seen: list[int] = []

    def once(step: Step) -> StepOutcome:
        seen.append(step.attempts)
        if len(seen) == 1:
            raise StepError.put_back(0)
        return Succeed()

    runtime = WorkflowRuntime(queue, once)
    runtime.submit()
    runtime.run_until_idle(PATIENCE)
    assert queue.metrics().queues[STEPS].attempts == {("", "put_back"): 1, ("", "succeeded"): 1}


def test_durations_are_those_of_the_step_not_of_its_wait(queue: Queue) -> None:
    release = threading.Event()
    started = threading.Event()

    def step(step: Step) -> StepOutcome:
        started.set()
        assert release.wait(PATIENCE)
        return Succeed()

    with WorkflowRuntime(queue, step, max_concurrent_steps=1) as runtime:
        handles = [runtime.submit() for _ in range(2)]
        assert started.wait(PATIENCE)
        release.set()
        for handle in handles:
            handle.wait(PATIENCE)
    took = queue.metrics().queues[STEPS].step_duration[""]
    assert took.count == 2
    assert 0 <= took.sum < PATIENCE


def test_the_wait_for_the_first_step_counts_from_when_it_could_begin(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, by_plan)
    runtime.submit(input=b"go done")
    runtime.submit(input=b"done", run_at=clock.now().replace(microsecond=0))
    clock.advance(20)
    runtime.run_until_idle(PATIENCE)
    waited = still.metrics().queues[STEPS].submit_to_start
    assert (waited.count, round(waited.sum)) == (2, 40)
    bucket = waited.bounds.index(30.0)
    assert waited.counts[bucket] == 2


def test_jobs_of_bare_queues_and_notifications_are_counted_too(queue: Queue) -> None:
    over = threading.Event()
    queue.enqueue("mails", b"good")
    queue.enqueue("mails", b"bad")

    def work(job: object, claim: object) -> None:
        if job.payload == b"bad":  # type: ignore[attr-defined]
            over.set()
            raise PermanentFailure("no such address")

    run_worker(queue, "mails", work, shutdown=over)
    runtime = WorkflowRuntime(queue, by_plan, lambda outcome: None)
    runtime.submit(input=b"done")
    runtime.run_until_idle(PATIENCE)
    queues = queue.metrics().queues
    assert queues["mails"].attempts == {("", "succeeded"): 1, ("", "dead"): 1}
    assert queues["mails"].runs_finished == {}
    assert queues[f"{STEPS}.terminal"].attempts == {("", "succeeded"): 1}


def test_labels_are_bounded_in_memory_and_in_the_store(queue: Queue) -> None:
    def labelled(step: Step) -> StepOutcome:
        if step.step_number == MOST_LABELS + 20:
            return Succeed()
        return Continue(label=f"order-{step.step_number}")

    runtime = WorkflowRuntime(queue, labelled)
    runtime.submit()
    runtime.run_until_idle(PATIENCE)
    attempts = queue.metrics().queues[STEPS].attempts
    labels = {label for label, _ in attempts}
    assert len(labels) <= MOST_LABELS + 2 and OTHER_LABEL in labels
    assert sum(attempts.values()) == MOST_LABELS + 21


def test_totals_outlive_the_rows(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, by_plan, keep_runs=None)
    runtime.submit(run_id="r", input=b"done")
    runtime.run_until_idle(PATIENCE)
    clock.advance(3_600)
    while still.handle.store.sweep():
        pass
    assert runtime.status("r") is None
    assert still.metrics().queues[STEPS].runs_finished == {"succeeded": 1}


def test_a_runtime_that_goes_on_stores_within_seconds_what_it_has_counted(queue: Queue) -> None:
    with WorkflowRuntime(queue, by_plan) as runtime:
        for _ in range(3):
            runtime.submit(input=b"go go done").wait(PATIENCE)

        def all_are_stored() -> bool:
            return sum(queue.metrics().queues[STEPS].attempts.values()) == 9

        wait_until(all_are_stored, "that all nine attempts are counted")


def test_activity_is_told_by_the_minute(still: Queue, clock: ManualClock) -> None:
    runtime = WorkflowRuntime(still, by_plan)
    for _ in range(2):
        runtime.submit(input=b"go done")
        runtime.run_until_idle(PATIENCE)
        clock.advance(60)
    minutes = still.recent_activity(STEPS)
    assert [each.attempts for each in minutes] == [{"continued": 1, "succeeded": 1}] * 2
    assert [each.runs_finished for each in minutes] == [{"succeeded": 1}] * 2
    assert (minutes[1].at - minutes[0].at).total_seconds() == 60
    assert still.recent_activity("another") == []


@pytest.mark.embedded
def test_a_step_that_comes_alone_is_counted_in_its_own_commit(tmp_path: Path) -> None:
    points: list[str] = []
    with open_queue(tmp_path / "store", failpoint=points.append) as queue:
        runtime = WorkflowRuntime(queue, by_plan)
        runtime.submit(input=b"done")
        runtime.run_until_idle(PATIENCE)
        assert queue.metrics().queues[STEPS].runs_finished == {"succeeded": 1}
    counted = [point for point in points if "meter" in point]
    assert counted == ["ack+meter:before-commit", "ack+meter:after-commit"]


@pytest.mark.embedded
def test_many_steps_are_counted_in_few_commits(tmp_path: Path) -> None:
    points: list[str] = []
    with open_queue(tmp_path / "store", durability="relaxed", failpoint=points.append) as queue:
        runtime = WorkflowRuntime(queue, lambda step: Continue() if step.step_number < 300 else Succeed())
        runtime.submit()
        runtime.run_until_idle(PATIENCE)
        assert sum(queue.metrics().queues[STEPS].attempts.values()) == 301
    commits = [point for point in points if point.endswith(":after-commit")]
    counted = [point for point in commits if "meter" in point]
    assert 2 <= len(counted) < len(commits) / 4
    # Of its own is the last one alone: nothing came after what it counts.
    assert [point for point in counted if point == "meter:after-commit"] == counted[-1:]


@pytest.mark.embedded
def test_a_store_that_refuses_to_count_lets_steps_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Queue.open(
        tmp_path / "store", durability="relaxed", default_config=QueueConfig(retry_backoff_base=0)
    ) as queue:

        def refuse(added: object) -> None:
            raise StorageError("the disk is full")

        monkeypatch.setattr(queue.handle.store, "add_to_meters", refuse)
        runtime = WorkflowRuntime(queue, by_plan)
        handle = runtime.submit(input=b"go go go done")
        assert runtime.run_until_idle(PATIENCE).succeeded == 1
        assert handle.status() is not None


@pytest.mark.embedded
def test_what_a_commit_that_failed_was_to_count_is_counted_by_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing: list[Counting] = []

    with Queue.open(tmp_path / "store", durability="relaxed") as queue:
        begin = Writer.begin
        settle_and_claim = queue.handle.store.settle_and_claim

        def settle(settlements: Any, claims: Any, counting: Counting | None = None) -> Any:
            if counting is not None and counting.before and not failing:
                failing.append(counting)
            return settle_and_claim(settlements, claims, counting)

        def fail_once(self: Writer, *, is_last: bool) -> Any:
            if len(failing) == 1:
                failing.append(failing[0])
                raise NotBegun(StorageError("the disk is full"))
            return begin(self, is_last=is_last)

        monkeypatch.setattr(queue.handle.store, "settle_and_claim", settle)
        monkeypatch.setattr(Writer, "begin", fail_once)
        calls: list[int] = []

        def run_step(step: Step) -> StepOutcome:
            calls.append(step.step_number)
            return Continue() if not failing or step.step_number < 9 else Succeed()

        runtime = WorkflowRuntime(queue, run_step)
        runtime.submit()
        runtime.run_until_idle(PATIENCE)
        assert len(failing) == 2 and sum(failing[0].before.values()) > 0
        attempts = sum(queue.metrics().queues[STEPS].attempts.values())
        assert attempts == len(calls)


def test_a_histogram_adds_up() -> None:
    histogram = Histogram((1.0, 2.0), (3, 0, 4), 12.5)
    assert (histogram.count, histogram.cumulative) == (7, (3, 3, 7))
    assert (Histogram().count, Histogram().cumulative[-1]) == (0, 0)
