"""Stand-ins: a scripted runner, a hook that remembers."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from taquba_workflow_sync.outcome import RunOutcome
from taquba_workflow_sync.workflow.outcomes import StepOutcome
from taquba_workflow_sync.workflow.runner import Step


class ScriptedRunner:
    """Answers the n-th call with the n-th item of a script: an outcome to return, an exception to raise.

    ``steps`` holds what it was called with. A call beyond the script raises ``AssertionError``.
    """

    def __init__(self, script: Iterable[StepOutcome | BaseException]) -> None:
        self._script = list(script)
        self._lock = threading.Lock()
        self.steps: list[Step] = []

    def run_step(self, step: Step) -> StepOutcome:
        """Answer with the next item."""
        with self._lock:
            number = len(self.steps)
            self.steps.append(step)
        if number >= len(self._script):
            raise AssertionError(f"the script has {len(self._script)} items, this is call {number + 1}: {step!r}")
        item = self._script[number]
        if isinstance(item, BaseException):
            raise item
        return item


class RecordingHook:
    """A terminal hook that keeps every outcome it is told of, in ``outcomes``."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.outcomes: list[RunOutcome] = []

    def on_termination(self, outcome: RunOutcome) -> None:
        """Remember the outcome."""
        with self._condition:
            self.outcomes.append(outcome)
            self._condition.notify_all()

    def wait_for(self, count: int, timeout: float = 30.0) -> list[RunOutcome]:
        """Block until ``count`` outcomes have come, and return all.

        Raises:
            TimeoutError: they have not come within ``timeout`` seconds.
        """
        with self._condition:
            if not self._condition.wait_for(lambda: len(self.outcomes) >= count, timeout):
                raise TimeoutError(f"{len(self.outcomes)} outcomes of {count} came within {timeout} s")
            return list(self.outcomes)
