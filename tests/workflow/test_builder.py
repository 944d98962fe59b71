"""The builder, and several runtimes on one queue."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from taquba_workflow_sync import (
    InvalidNameError,
    Queue,
    StepOrder,
    WorkflowRuntime,
    WorkflowRuntimeBuilder,
)
from taquba_workflow_sync.testing import RecordingHook
from tests.queue.support import PATIENCE, counters

from .support import echo


def test_the_builder_takes_every_option_and_builds_a_runtime(queue: Queue) -> None:
    hook = RecordingHook()
    builder = WorkflowRuntime.builder(queue, echo, hook)
    assert isinstance(builder, WorkflowRuntimeBuilder)
    runtime = (
        builder.queue_name("built")
        .max_concurrent_steps(2)
        .poll_interval(timedelta(seconds=1))
        .keep_runs(None)
        .shutdown_grace(5)
        .step_order(StepOrder.OLDEST_RUN_FIRST)
        .build()
    )

    assert isinstance(runtime, WorkflowRuntime)
    assert runtime.queue_name == "built"
    handle = runtime.submit(input=b"x")
    with runtime:
        assert handle.result(PATIENCE) == b"x"
        assert hook.wait_for(1)[0].run_id == handle.run_id
    assert handle.status() is None, "keep_runs=None"
    assert queue.list_queues() == ["built", "built.terminal"]


def test_every_option_of_the_runtime_has_its_method() -> None:
    import inspect

    options = {
        name for name, each in inspect.signature(WorkflowRuntime).parameters.items() if each.kind is each.KEYWORD_ONLY
    }
    methods = {name for name in vars(WorkflowRuntimeBuilder) if not name.startswith("_")} - {"build"}

    assert methods == options


def test_without_options_it_builds_the_default(queue: Queue) -> None:
    runtime = WorkflowRuntime.builder(queue, echo, None).build()

    assert runtime.queue_name == "workflow-steps"
    runtime.submit()
    assert runtime.run_until_idle(PATIENCE).succeeded == 1


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("queue_name", "", InvalidNameError),
        ("queue_name", 5, TypeError),
        ("max_concurrent_steps", 0, ValueError),
        ("max_concurrent_steps", "2", TypeError),
        ("poll_interval", 0, ValueError),
        ("poll_interval", None, TypeError),
        ("keep_runs", -1, ValueError),
        ("shutdown_grace", "1", TypeError),
        ("step_order", "random", ValueError),
    ],
)
def test_a_wrong_option_is_refused_when_it_is_built_at_the_latest(
    queue: Queue, option: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        getattr(WorkflowRuntime.builder(queue, echo), option)(value).build()


def test_two_runtimes_with_different_queue_names_share_one_queue(queue: Queue) -> None:
    hooks = {name: RecordingHook() for name in ("a", "b")}
    runtimes = {name: WorkflowRuntime(queue, echo, hooks[name], queue_name=name) for name in hooks}
    with runtimes["a"], runtimes["b"]:
        handles = {name: runtime.submit(run_id="same", input=name.encode()) for name, runtime in runtimes.items()}
        assert {name: handle.result(PATIENCE) for name, handle in handles.items()} == {"a": b"a", "b": b"b"}
        for name, hook in hooks.items():
            assert [outcome.result for outcome in hook.wait_for(1)] == [name.encode()]

    assert counters(queue, "a") == counters(queue, "b") == {"done": 1}


def test_stopping_one_runtime_leaves_the_other_running(queue: Queue) -> None:
    one, two = (WorkflowRuntime(queue, echo, queue_name=name) for name in ("one", "two"))
    with two:
        one.start()
        assert one.stop()
        late = one.submit()
        assert two.submit(input=b"x").result(PATIENCE) == b"x"
        with pytest.raises(TimeoutError):
            late.wait(0.1)


def test_two_runtimes_of_one_queue_name_share_its_runs(queue: Queue) -> None:
    with WorkflowRuntime(queue, echo) as one, WorkflowRuntime(queue, echo):
        handles = [one.submit(input=str(n).encode()) for n in range(50)]
        assert [handle.result(PATIENCE) for handle in handles] == [str(n).encode() for n in range(50)]
