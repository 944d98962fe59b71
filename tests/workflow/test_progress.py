"""Progress: what a running step says of itself, seen from every process (FEATURES 8)."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from taquba_workflow_sync import (
    Continue,
    InvalidStateError,
    Queue,
    RunProgress,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.queue.dispatch import heartbeat
from taquba_workflow_sync.queue.dispatch.heartbeat import Heartbeat
from taquba_workflow_sync.queue.dispatch.lane import Execution, Lane
from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim
from taquba_workflow_sync.workflow.progress import say
from tests.queue.support import PATIENCE

from .support import STEPS, Gate, ended, wait_until


def progress(client: WorkflowClient, run_id: str) -> RunProgress | None:
    status = client.status(run_id)
    return None if status is None else status.progress


class Saying(Gate):
    """A step that says something, and then waits to be let go."""

    def __init__(self, say: Callable[[Step], None], then: StepOutcome | None = None) -> None:
        super().__init__(then=lambda step: then or Succeed())
        self.say = say

    def run_step(self, step: Step) -> StepOutcome:
        self.say(step)
        return super().run_step(step)


def test_what_a_step_says_is_shown_while_it_runs_and_not_afterwards(queue: Queue) -> None:
    gate = Saying(lambda step: step.progress(3, 10, "page 3"))
    before = datetime.now(UTC)
    with WorkflowRuntime(queue, gate) as runtime:
        runtime.submit(run_id="r")
        wait_until(lambda: progress(runtime, "r") is not None, "the progress")
        shown = progress(runtime, "r")
        assert shown is not None
        assert (shown.done, shown.total, shown.note) == (3, 10, "page 3")
        assert abs((shown.at - before).total_seconds()) < PATIENCE
        (listed,) = runtime.list_runs().runs
        assert listed.progress == shown
        gate.go.set()
        assert ended(runtime, "r").error is None
        assert progress(runtime, "r") is None


def test_the_next_step_and_the_next_attempt_begin_with_none(queue: Queue) -> None:
    seen: list[RunProgress | None] = []
    stored = threading.Event()

    def run_step(step: Step) -> StepOutcome:
        seen.append(progress(client, "r"))
        if len(seen) < 3:
            step.progress(1)
            wait_until(lambda: progress(client, "r") is not None, "the progress")
            stored.set()
        if len(seen) == 1:
            raise StepError.transient("again")
        return Continue(b"") if len(seen) == 2 else Succeed()

    client = WorkflowRuntime(queue, run_step)
    client.submit(run_id="r")
    client.run_until_idle(PATIENCE)
    assert seen == [None, None, None]
    assert stored.is_set()


def test_the_last_word_wins_and_replaces_the_one_before(queue: Queue) -> None:
    more = threading.Event()

    def run_step(step: Step) -> StepOutcome:
        for number in range(1_000):
            step.progress(number, 1_000)
        more.wait(PATIENCE)
        return Succeed()

    with WorkflowRuntime(queue, run_step) as runtime:
        runtime.submit(run_id="r")
        wait_until(lambda: (shown := progress(runtime, "r")) is not None and shown.done == 999, "the last word")
        more.set()
        ended(runtime, "r")


@pytest.mark.embedded
def test_another_process_sees_it(queue: Queue) -> None:
    gate = Saying(lambda step: step.progress(1, 2, "half"))
    code = """
import sys
from taquba_workflow_sync import Queue, WorkflowClient
with Queue.open(sys.argv[1]) as queue:
    print(WorkflowClient(queue).status("r").progress.note)
"""
    with WorkflowRuntime(queue, gate) as runtime:
        runtime.submit(run_id="r")
        wait_until(lambda: progress(runtime, "r") is not None, "the progress")
        printed = subprocess.run(
            [sys.executable, "-c", code, str(queue.path)], capture_output=True, text=True, timeout=60, check=True
        )
        assert printed.stdout == "half\n"
        gate.go.set()
        ended(runtime, "r")


class Counted:
    """A store that counts what the heartbeat asks of it."""

    def __init__(self, queue: Queue) -> None:
        self.real = queue.handle.store
        self.reports: list[int] = []
        self.fails = False

    @property
    def store(self) -> Counted:
        return self

    def report_progress(self, reports: list[object]) -> None:
        if self.fails:
            raise OSError("the disk is full")
        self.reports.append(len(reports))
        self.real.report_progress(reports)  # type: ignore[arg-type]  # what the heartbeat made


@pytest.fixture
def running(queue: Queue) -> list[Execution]:
    """Three claims as a dispatcher has them."""
    WorkflowClient(queue).submit_many([*map(_spec, "abc")])
    _, rows = queue.handle.store.settle_and_claim((), [ClaimRequest((LaneClaim(STEPS, 60_000),), 3)])
    lane = Lane(STEPS, 60_000, lambda _: None, lambda *_: None)  # type: ignore[arg-type,return-value]  # not called
    return [Execution(row, lane, threading.Event()) for row in rows]


def _spec(run_id: str) -> object:
    from taquba_workflow_sync import RunSpec

    return RunSpec(run_id=run_id)


def test_however_much_is_said_there_is_at_most_one_write_a_second_for_all(
    queue: Queue, running: list[Execution], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, now = Counted(queue), [1_000.0]
    beat = Heartbeat(counted, lambda: running, "test")  # type: ignore[arg-type]  # all that it asks of a handle
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    for tick in range(31):
        for execution in running:
            say(execution, tick, None, "")
        beat._report(running)
        now[0] += 0.1
    assert counted.reports == [3, 3, 3, 3]


def test_what_was_said_once_is_written_once_and_what_was_not_said_is_not(
    queue: Queue, running: list[Execution], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, now = Counted(queue), [1_000.0]
    beat = Heartbeat(counted, lambda: running, "test")  # type: ignore[arg-type]  # all that it asks of a handle
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    say(running[0], 1, None, "")
    for _ in range(3):
        beat._report(running)
        now[0] += 2
    assert counted.reports == [1]


def test_a_store_that_fails_is_told_again(
    queue: Queue, running: list[Execution], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, now = Counted(queue), [1_000.0]
    beat = Heartbeat(counted, lambda: running, "test")  # type: ignore[arg-type]  # all that it asks of a handle
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    say(running[0], 1, None, "")
    counted.fails = True
    with pytest.raises(OSError, match="full"):
        beat._report(running)
    counted.fails = False
    now[0] += 2
    beat._report(running)
    assert counted.reports == [1]


def test_a_step_whose_claim_was_lost_says_nothing(queue: Queue, running: list[Execution]) -> None:
    counted = Counted(queue)
    beat = Heartbeat(counted, lambda: running, "test")  # type: ignore[arg-type]  # all that it asks of a handle
    say(running[1], 1, None, "")
    for execution in running:
        execution.is_lost = True
    say(running[0], 1, None, "")
    beat._report(running)
    assert counted.reports == []


GOOD = {"done": 1, "total": None, "note": ""}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("done", "1", TypeError), ("done", True, TypeError), ("done", None, TypeError), ("done", -1, ValueError),
        ("done", float("nan"), ValueError), ("done", float("inf"), ValueError), ("done", 2**53 + 1, ValueError),
        ("total", "1", TypeError), ("total", -1, ValueError), ("total", float("inf"), ValueError),
        ("note", b"x", TypeError), ("note", None, TypeError), ("note", "x" * 1_025, ValueError),
        ("note", "\u00fc" * 513, ValueError), ("note", "a\0b", ValueError), ("note", "\ud800", ValueError),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_and_named(
    running: list[Execution], name: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        say(running[0], **{**GOOD, name: value})  # type: ignore[arg-type]  # wrong on purpose
    assert running[0].progress is None


@pytest.mark.parametrize("note", ["", "x" * 1_024, "\u00fc" * 512])
def test_a_note_may_have_a_kibibyte(running: list[Execution], note: str) -> None:
    say(running[0], 0, 0.5, note)
    assert running[0].progress is not None


def test_a_step_made_by_hand_has_nobody_to_tell() -> None:
    step = Step("r", 0, b"", {}, "j", 1, 3, threading.Event(), threading.Event())
    with pytest.raises(InvalidStateError, match="made by hand"):
        step.progress(1)
