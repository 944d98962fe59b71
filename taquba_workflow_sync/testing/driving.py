"""Runs driven to their end by a runtime on a clock set by hand: whenever nothing can be done, time moves on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Final

from taquba_workflow_sync.outcome import RunOutcome
from taquba_workflow_sync.queue.outlook import look, wait_for_change
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.testing.clock import ManualClock
from taquba_workflow_sync.testing.crashes import Crashes
from taquba_workflow_sync.testing.doubles import RecordingHook
from taquba_workflow_sync.workflow.effects import Effects
from taquba_workflow_sync.workflow.hooks import Hook, with_effects
from taquba_workflow_sync.workflow.new_run import LANE_SUFFIX
from taquba_workflow_sync.workflow.outcomes import StepOutcome
from taquba_workflow_sync.workflow.runner import Step, StepFunction
from taquba_workflow_sync.workflow.runtime import WorkflowRuntime
from taquba_workflow_sync.workflow.served import Service

# Commits are looked for every few milliseconds; this only has a step that does not end noticed.
_LONGEST_LOOK: Final = 1.0
# How long a step that does not end is waited for once the run has been given up.
_GRACE: Final = 1.0


#: Makes the context that the user's code is called in.
Inside = Callable[[], AbstractContextManager[object]]


class Ends:
    """The hook of one service: keeps how runs ended, tells the service's own hook, and then the test's."""

    def __init__(self, own: Hook | None, told: RecordingHook | None, inside: Inside) -> None:
        self.outcomes: dict[str, RunOutcome] = {}
        self._told = told
        self._inside = inside
        self._has_told: set[tuple[str, int]] = set()
        method = getattr(own, "on_termination", own)
        self._own: Callable[[RunOutcome, Effects], None] | None = with_effects(method) if callable(method) else None
        self._observes: Callable[[RunOutcome], object] = getattr(own, "observes", lambda outcome: True)

    def on_termination(self, outcome: RunOutcome, effects: Effects) -> None:
        """Keep the outcome, and pass it on; called again if the service's own hook fails."""
        self.outcomes[outcome.job_id] = outcome
        ending = (outcome.job_id, outcome.termination)
        if self._told is not None and ending not in self._has_told:
            self._has_told.add(ending)
            self._told.on_termination(outcome)
        if self._own is not None:
            with self._inside():
                if self._observes(outcome):
                    self._own(outcome, effects)


class _Served:
    """A service with its runner and its hook exchanged, as a runtime takes it."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def run_step(self, step: Step) -> StepOutcome:
        return self._service.run_step(step)

    def service(self) -> Service:
        return self._service


@dataclass
class Drive:
    """A store, its clock, and what serves it.

    ``crashes`` cut what runs; ``told`` hears of every end; steps and hooks are called ``inside`` a context.
    """

    queue: Queue
    clock: ManualClock
    services: Sequence[Service]
    crashes: Sequence[Crashes] = ()
    told: RecordingHook | None = None
    timeout: float = 30.0
    inside: Inside = nullcontext
    _ends: dict[str, Ends] = field(init=False)
    _is_dead: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._ends = {each.queue_name: Ends(each.hook, self.told, self.inside) for each in self.services}
        self._names = [name + suffix for name in self._ends for suffix in ("", LANE_SUFFIX)]

    def to_end(self, job_id: str, *, after: int = 0) -> RunOutcome | None:
        """Run steps until a run has ended, its end has been told and nothing is left that could be done at once.

        Returns how it ended; None if it waits for what no time brings. ``after``: a number of its terminations that
        are over.

        Raises:
            TimeoutError: it has not within ``timeout`` seconds of real time.
        """
        until = time.monotonic() + self.timeout
        while True:
            self._is_dead = False
            runtime = WorkflowRuntime(
                self.queue, [_Served(self._equipped(each)) for each in self.services], max_concurrent_steps=1
            )
            for crashes in self.crashes:
                crashes.die = lambda runtime=runtime: self._die(runtime)  # type: ignore[misc]  # bound early
            runtime.start()
            try:
                is_over = self._watch(job_id, after, until)
            except BaseException:
                runtime.stop(_GRACE)
                raise
            runtime.stop()
            if is_over:
                return self._ended(job_id, after)

    def _watch(self, job_id: str, after: int, until: float) -> bool:
        """Move time on whenever nothing can be done, until nothing more is to come; False if the runtime died."""
        while not self._is_dead:
            ended = self._ended(job_id, after)
            outlook = look(self.queue.handle, self._names)
            if outlook.due_ms is None and not outlook.is_busy:
                return True
            if not outlook.is_busy and ended is not None and not self._owes_a_hook():
                return True
            self._check_time(until)
            if outlook.is_busy:
                wait_for_change(self.queue.handle, outlook, min(_LONGEST_LOOK, until - time.monotonic()))
            elif outlook.due_ms is not None:
                self.clock.advance(outlook.due_ms / 1000)
        return False

    def _owes_a_hook(self) -> bool:
        """Whether a hook has failed and is to be called again."""
        return any(look(self.queue.handle, [name + LANE_SUFFIX]).due_ms is not None for name in self._ends)

    def _equipped(self, service: Service) -> Service:
        def run_inside(step: Step) -> StepOutcome:
            with self.inside():
                return service.run_step(step)

        run_step: StepFunction = run_inside
        for crashes in self.crashes:
            run_step = crashes.wrap(run_step)
        return replace(service, run_step=run_step, hook=self._ends[service.queue_name])

    def _die(self, runtime: WorkflowRuntime) -> None:
        self._is_dead = True
        runtime.stop(0)

    def _ended(self, job_id: str, after: int) -> RunOutcome | None:
        for each in self._ends.values():
            outcome = each.outcomes.get(job_id)
            if outcome is not None and outcome.termination > after:
                return outcome
        return None

    def _check_time(self, until: float) -> None:
        if time.monotonic() >= until:
            raise TimeoutError(
                f"the run has not ended within {self.timeout:g} s of real time: a step does not return, or it goes on"
                f" for ever (its clock is at {self.clock.now():%Y-%m-%d %H:%M:%S})"
            )
