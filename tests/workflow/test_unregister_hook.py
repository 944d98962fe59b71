"""A hook that is retired: its registration can be ended, and what waits for it delivered or dropped."""

from __future__ import annotations

from typing import Any

import pytest

from taquba_workflow_sync import Queue, Succeed, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.testing import RecordingHook

LANE = "workflow-steps.terminal"


def _end_runs(queue: Queue, *names: str) -> None:
    """End runs in a process without the hook, so that its notifications wait."""
    runtime = WorkflowRuntime(queue, lambda step: Succeed())
    for name in names:
        runtime.submit(run_id=name)
    runtime.run_until_idle()


def _with_hook(queue: Queue) -> tuple[WorkflowRuntime, RecordingHook]:
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, lambda step: Succeed(), hook)
    runtime.submit(run_id="first")
    return runtime, hook


def test_after_unregister_hook_runs_that_end_notify_nobody(queue: Queue) -> None:
    _with_hook(queue)
    WorkflowClient(queue).unregister_hook()
    _end_runs(queue, "second")
    assert queue.stats(LANE).pending == 0


def test_unregister_hook_leaves_waiting_notifications_to_who_still_has_the_hook(queue: Queue) -> None:
    runtime, hook = _with_hook(queue)
    _end_runs(queue)
    assert queue.stats(LANE).pending == 1
    WorkflowClient(queue).unregister_hook(waiting="deliver")
    runtime.run_until_idle()
    assert [outcome.run_id for outcome in hook.outcomes] == ["first"]


def test_unregister_hook_drops_waiting_notifications_when_told(queue: Queue) -> None:
    _with_hook(queue)
    _end_runs(queue, *(f"run-{number}" for number in range(1_100)))
    assert queue.stats(LANE).pending == 1_101
    WorkflowClient(queue).unregister_hook(waiting="drop")
    assert queue.stats(LANE).pending == 0
    assert queue.list_jobs(LANE).jobs == []


def test_a_notification_under_way_is_finished_when_the_others_are_dropped(queue: Queue) -> None:
    _with_hook(queue)
    _end_runs(queue, "second")
    claim = queue.claim(LANE)
    assert claim is not None
    WorkflowClient(queue).unregister_hook(waiting="drop")
    queue.ack(claim)
    assert queue.stats(LANE).pending == 0


def test_unregister_hook_twice_or_without_a_hook_is_a_no_op(queue: Queue) -> None:
    client = WorkflowClient(queue)
    client.unregister_hook()
    client.unregister_hook(waiting="drop")
    assert queue.stats(LANE).pending == 0


def test_a_hook_that_was_unregistered_is_registered_anew_by_the_next_runtime_that_has_one(queue: Queue) -> None:
    runtime, hook = _with_hook(queue)
    runtime.run_until_idle()
    runtime.unregister_hook()
    runtime.submit(run_id="untold")
    runtime.run_until_idle()
    later = WorkflowRuntime(queue, lambda step: Succeed(), hook)
    later.submit(run_id="told")
    later.run_until_idle()
    assert [outcome.run_id for outcome in hook.outcomes] == ["first", "told"]


@pytest.mark.parametrize(
    ("waiting", "error"), [("keep", ValueError), ("", ValueError), (None, TypeError), (True, TypeError)]
)
def test_unregister_hook_refuses_what_it_does_not_know_and_changes_nothing(
    queue: Queue, waiting: Any, error: type[Exception]
) -> None:
    _with_hook(queue)
    with pytest.raises(error, match="waiting"):
        WorkflowClient(queue).unregister_hook(waiting=waiting)
    _end_runs(queue, "second")
    assert queue.stats(LANE).pending == 2
