"""One worker for several stores: a runtime each, as one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.workflow.runtime import WorkflowRuntime
from taquba_workflow_sync.workflow.status import RunCounts

_DONE = ("succeeded", "failed", "cancelled", "steps")


class SeveralStores(WorkflowRuntime):
    """Runtimes of different stores, started and stopped together; as a client it is that of the first."""

    def __init__(self, parts: Sequence[WorkflowRuntime]) -> None:
        self.__dict__.update(parts[0].__dict__)
        self._parts = list(parts)
        #: Of the rounds of run_until_idle, each of which counts anew.
        self._dead: int | None = None

    @property
    def queue_names(self) -> tuple[str, ...]:
        """The queues of all of them."""
        return tuple(name for part in self._parts for name in part.queue_names)

    @property
    def ended_runs(self) -> int:
        """How many runs have ended in all of them."""
        return sum(part.ended_runs for part in self._parts)

    @property
    def dead_letters(self) -> int:
        """How many steps have become dead letters in all of them."""
        return sum(part.dead_letters for part in self._parts) if self._dead is None else self._dead

    def resize(self, max_concurrent_steps: int) -> None:
        """Have the next start make so many threads in each."""
        for part in self._parts:
            part.resize(max_concurrent_steps)

    def start(self) -> None:
        """Start all of them, or none."""
        self._dead = None
        started: list[WorkflowRuntime] = []
        try:
            for part in self._parts:
                part.start()
                started.append(part)
        except BaseException:
            for part in started:
                part.stop()
            raise

    def stop(self, timeout: Duration | None = None) -> bool:
        """Stop all of them; True if no step is left."""
        for part in self._parts:
            part.stop(0)  # asks them all, before any is waited for
        limit = validation.optional_seconds(timeout, "timeout")
        deadline = None if limit is None else time.monotonic() + limit
        ended = [part.stop(None if deadline is None else max(0.0, deadline - time.monotonic())) for part in self._parts]
        return all(ended)

    def run_until_idle(self, timeout: Duration | None = None, *, wait_for_scheduled: Duration = 0.0) -> RunCounts:
        """Run the steps of each store in turn, until none has anything left to do."""
        limit = validation.optional_seconds(timeout, "timeout")
        deadline = None if limit is None else time.monotonic() + limit
        done = dict.fromkeys(_DONE, 0)
        self._dead = 0
        while True:
            rounds = []
            for part in self._parts:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                rounds.append(part.run_until_idle(left, wait_for_scheduled=wait_for_scheduled))
                self._dead += part.dead_letters
            for name in _DONE:
                done[name] += sum(getattr(each, name) for each in rounds)
            # A step of one store may have submitted to another one.
            if not any(each.steps for each in rounds) or (deadline is not None and time.monotonic() >= deadline):
                remaining = {
                    each.name: sum(getattr(one, each.name) for one in rounds)
                    for each in fields(RunCounts)
                    if each.name not in done
                }
                return RunCounts(**done, **remaining)
