"""A fault of ours in the middle of a dispatcher's turn leaves nothing behind, wherever it comes."""

from __future__ import annotations

from typing import Any

import pytest

from taquba_workflow_sync import Continue, Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowRuntime
from taquba_workflow_sync.queue.dispatch import settling, state


def two_steps(step: Step) -> StepOutcome:
    return Continue(b"next") if step.step_number == 0 else Succeed(b"done")


@pytest.mark.parametrize(
    ("owner", "where", "number"),
    [(settling.Settler, "_let_go_of", 1), (settling.Settler, "_hand_out", 2), (state.DispatchState, "let_go", 2)],
    ids=["before anything is let go of", "before the claims are handed out", "in the middle"],
)
@pytest.mark.parametrize("holds", [True, False], ids=["held", "let go of"])
def test_a_turn_that_fails_after_its_commit_is_taken_up(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, owner: type, where: str, number: int, holds: bool
) -> None:
    if not holds:
        monkeypatch.setattr(settling, "ask", lambda store, state, batch: list(batch))
    runtime = WorkflowRuntime(queue, two_steps)
    handles = runtime.submit_many([RunSpec(input=b"%d" % number) for number in range(5)])
    original, original_requests = getattr(owner, where), settling.Settler._requests
    calls: list[int] = []

    def failing(self: Any, *arguments: Any) -> Any:
        if any(arguments):  # something was settled, or claimed
            calls.append(1)
            if len(calls) == number:
                raise AssertionError("a fault of ours")
        return original(self, *arguments)

    def always(self: settling.Settler, batch: Any) -> Any:
        # The turn that settles claims as well: what it put in line is claimed, and no thread was told.
        for pool in self._state.pools:
            pool.has_backlog = pool.has_backlog or (bool(batch) and len(calls) < number)
        return original_requests(self, batch)

    monkeypatch.setattr(owner, where, failing)
    monkeypatch.setattr(settling.Settler, "_requests", always)
    runtime.run_until_idle(30)

    assert len(calls) > number
    assert queue.stats(runtime.queue_name).claimed == 0
    assert [handle.result(timeout=30) for handle in handles] == [b"done"] * 5
