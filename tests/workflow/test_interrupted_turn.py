"""An interrupt of ``run_until_idle`` in the middle of a turn leaves nothing behind, wherever it comes."""

from __future__ import annotations

from typing import Any

import pytest

from taquba_workflow_sync import Continue, Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowRuntime
from taquba_workflow_sync.queue.dispatch.dispatcher import Dispatcher


def two_steps(step: Step) -> StepOutcome:
    return Continue(b"next") if step.step_number == 0 else Succeed(b"done")


@pytest.mark.parametrize("where", ["_conclude", "_hand_out", "_let_go"])
def test_a_turn_interrupted_after_its_commit_is_taken_up(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    runtime = WorkflowRuntime(queue, two_steps)
    handles = runtime.submit_many([RunSpec(input=b"%d" % number) for number in range(5)])
    original = getattr(Dispatcher, where)
    calls: list[int] = []

    def interrupted(self: Dispatcher, *arguments: Any) -> Any:
        calls.append(1)
        # The second turn is the first that has settlements as well as claims.
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(Dispatcher, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        runtime.run_until_idle(30)
    monkeypatch.setattr(Dispatcher, where, original)

    assert queue.stats(runtime.queue_name).claimed == 0
    counts = runtime.run_until_idle(30)
    assert counts.elsewhere == 0
    assert [handle.result(timeout=30) for handle in handles] == [b"done"] * 5
