"""Working until idle, or until it is told to stop, in this process."""

from __future__ import annotations

import threading

import pytest

from taquba_workflow_sync import Continue, RunCounts, Step, StepOutcome, Succeed, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.cli.serving import work_on, work_until_idle
from taquba_workflow_sync.cli.stopping import Stop
from tests.support import await_event, in_thread


class SlowToBegin(WorkflowRuntime):
    """Begins to work when it has been told to stop five times already."""

    stops = 0
    was_stopped: threading.Event

    def run_until_idle(self, timeout: object = None, *, wait_for_scheduled: object = 0.0) -> RunCounts:
        await_event(self.was_stopped)
        return super().run_until_idle()

    def stop(self, timeout: object = None) -> bool:
        try:
            return super().stop(timeout)  # type: ignore[arg-type]  # as the caller says
        finally:
            self.stops += 1
            if self.stops == 5:
                self.was_stopped.set()


def test_a_stop_that_comes_before_the_work_has_begun_is_obeyed(client: WorkflowClient) -> None:
    is_over = threading.Event()

    def step(step: Step) -> StepOutcome:
        return Succeed() if is_over.is_set() else Continue(b"")

    client.submit()
    runtime = SlowToBegin(client.queue, step)
    runtime.was_stopped = threading.Event()
    stop = Stop()
    stop.is_asked = True
    try:
        counts = in_thread(lambda: work_until_idle(runtime, stop, max_runtime=None, grace=None))()
    finally:
        is_over.set()
    assert counts.succeeded == 0


def test_what_a_tick_raises_ends_the_work_first(client: WorkflowClient) -> None:
    client.submit()
    is_over = threading.Event()
    runtime = WorkflowRuntime(client.queue, lambda step: Succeed() if is_over.is_set() else Continue(b""))

    def on_tick() -> None:
        raise ZeroDivisionError("shown badly")

    try:
        with pytest.raises(ZeroDivisionError):
            in_thread(lambda: work_until_idle(runtime, Stop(), max_runtime=None, grace=None, on_tick=on_tick))()
    finally:
        is_over.set()
    assert not any(thread.name == "until-idle" for thread in threading.enumerate())


def test_an_error_of_the_work_is_the_callers(client: WorkflowClient) -> None:
    runtime = WorkflowRuntime(client.queue, lambda step: Succeed())
    with runtime, pytest.raises(Exception, match="started already"):
        work_until_idle(runtime, Stop(), max_runtime=None, grace=None)


@pytest.mark.parametrize("until_idle", [False, True])
def test_without_its_parent_it_ends(client: WorkflowClient, until_idle: bool) -> None:
    client.submit()
    is_over = threading.Event()
    runtime = WorkflowRuntime(client.queue, lambda step: Succeed() if is_over.is_set() else Continue(b""))
    nobody = -1

    def work() -> None:
        if until_idle:
            work_until_idle(runtime, Stop(), max_runtime=None, grace=None, parent=nobody)
        else:
            work_on(runtime, Stop(), max_runtime=None, max_runs=None, grace=None, parent=nobody)

    try:
        in_thread(work)()
    finally:
        is_over.set()
