"""A fault of ours in the middle of a dispatcher's turn leaves nothing behind, wherever it comes."""

from __future__ import annotations

from typing import Any

import pytest

from taquba_workflow_sync import Continue, Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowRuntime
from taquba_workflow_sync.queue.dispatch import settling, state


def two_steps(step: Step) -> StepOutcome:
    return Continue(b"next") if step.step_number == 0 else Succeed(b"done")


@pytest.mark.parametrize(
    ("owner", "where"),
    [(settling.Settler, "_let_go_of"), (settling.Settler, "_hand_out"), (state.DispatchState, "let_go")],
    ids=["before anything is let go of", "before the claims are handed out", "in the middle"],
)
def test_a_turn_that_fails_after_its_commit_is_taken_up(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, owner: type, where: str
) -> None:
    runtime = WorkflowRuntime(queue, two_steps)
    handles = runtime.submit_many([RunSpec(input=b"%d" % number) for number in range(5)])
    original = getattr(owner, where)
    calls: list[int] = []

    def failing(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        # The second turn is the first that has settlements as well as claims.
        if len(calls) == 2:
            raise AssertionError("a fault of ours")
        return original(self, *arguments)

    monkeypatch.setattr(owner, where, failing)
    runtime.run_until_idle(30)

    assert len(calls) > 2
    assert queue.stats(runtime.queue_name).claimed == 0
    assert [handle.result(timeout=30) for handle in handles] == [b"done"] * 5
