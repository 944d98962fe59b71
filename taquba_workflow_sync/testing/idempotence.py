"""A step is idempotent if nothing shows of it that it was cut and begun anew: tried at every point there is."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from taquba_workflow_sync.outcome import RunOutcome, TerminalStatus
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.testing.clock import ManualClock
from taquba_workflow_sync.testing.crashes import Crashes, CrashPoint, SimulatedCrash
from taquba_workflow_sync.testing.driving import Drive
from taquba_workflow_sync.testing.running import Signals, beginning, is_flow_step, pairs, runs_of, using
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.new_run import DEFAULT_KEEP, DEFAULT_QUEUE_NAME
from taquba_workflow_sync.workflow.runner import StepFunction, StepRunner
from taquba_workflow_sync.workflow.served import services_of

if TYPE_CHECKING:
    from taquba_workflow_sync.flow.flow import Flow
    from taquba_workflow_sync.flow.flow_step import FlowStep

_S = TypeVar("_S")

#: Called without arguments, or with the store of the run where it takes one.
Callback = Callable[[], object] | Callable[[Queue], object]


@overload
def assert_idempotent(
    step: FlowStep[_S, ..., Any], state: _S, *, setup: Callback, observe: Callback, signals: Signals = ()
) -> None: ...


@overload
def assert_idempotent(
    step: Flow[_S, Any], state: _S, *, setup: Callback, observe: Callback, signals: Signals = ()
) -> None: ...


@overload
def assert_idempotent(
    step: StepRunner | StepFunction, state: bytes, *, setup: Callback, observe: Callback, signals: Signals = ()
) -> None: ...


def assert_idempotent(step: Any, state: Any, *, setup: Callback, observe: Callback, signals: Signals = ()) -> None:
    """Check that a step leaves the same behind however it is cut and taken up again.

    A run begins with the step, unbroken, and goes on as far as time brings it; then one for each :class:`CrashPoint`
    and each note of the step, whose first attempt is cut there. Each has a new store and a fresh ``setup()``; behind
    each, ``observe()`` returns what is compared, such as the charges that a gateway was asked for. Both are passed the
    store, a Queue, if they take an argument: ``observe=lambda queue: queue.kv.get("sold")``.

    ``step``: a step of a flow, which alone is cut; a Flow, or a runner whose ``state`` is bytes: then every step of the
    run is. A run that has no attempt left after the cut is retried. ``signals``: as for :func:`run_to_end`.

    Raises:
        AssertionError: what ``observe()`` returned, or how the run ended, differs from the unbroken run; names the
            point. Or the unbroken run shows nothing to compare with: the step fails, or two of them differ.
        TypeError: an argument is wrong, or what ``observe()`` returns cannot be copied.
    """
    trial = _Trial(step, state, setup, observe, signals)
    whole = trial.run(Crashes(None, label=trial.label))
    if not whole.crashes.returns:
        raise AssertionError(f"{trial.name} does not get through even if nothing cuts it: {whole.end}")
    for crashes in _cuts(trial.label, whole.crashes.most_onces):
        broken = trial.run(crashes)
        if (broken.seen, broken.status) == (whole.seen, whole.status):
            continue
        again = trial.run(Crashes(None, label=trial.label))
        if again.seen != whole.seen:
            raise AssertionError(
                f"two unbroken runs of {trial.name} differ, so nothing can be compared: observe() returned"
                f" {whole.seen!r}, then {again.seen!r}; have it return what depends on neither time nor chance"
            )
        raise AssertionError(
            f"{trial.name} is not idempotent: cut at {crashes.where} and taken up again, {_difference(broken, whole)}"
        )


def _cuts(label: str | None, most_onces: int) -> Iterator[Crashes]:
    for point in CrashPoint:
        for nth in range(1, most_onces + 1) if point.is_of_once else (1,):
            yield Crashes(point, nth=nth, label=label)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one run left behind."""

    crashes: Crashes
    seen: object
    status: TerminalStatus | None
    end: str


def _difference(broken: _Seen, whole: _Seen) -> str:
    if broken.seen != whole.seen:
        return f"observe() returned {broken.seen!r}; after an unbroken run {whole.seen!r}"
    return f"the run {broken.end}; an unbroken one {whole.end}"


class _Trial:
    """Runs one step again and again, each time on a store of its own."""

    def __init__(self, step: Any, state: Any, setup: Callback, observe: Callback, signals: Signals) -> None:
        for name, function in (("setup", setup), ("observe", observe)):
            if not callable(function):
                raise TypeError(f"{name} must be a function, not {type(function).__name__}")
        self._step = step
        self._state = state
        self._setup = setup
        self._observe = observe
        self._signals = pairs(signals)
        #: What the step to cut is called; None: all are.
        self.label: str | None = step.name if is_flow_step(step) else None
        self.name: str = _name_of(step)
        if self.label is not None:
            self._step, self._state = beginning(step, state), None

    def run(self, crashes: Crashes) -> _Seen:
        clock = ManualClock()
        with Queue.temporary(clock=clock, durability="relaxed") as queue:
            _call(self._setup, queue)
            outcome, client, run_id = self._run(queue, clock, crashes)
            seen = _copy(_call(self._observe, queue))
            return _Seen(crashes, seen, None if outcome is None else outcome.status, _said(outcome, client, run_id))

    def _run(self, queue: Queue, clock: ManualClock, crashes: Crashes) -> tuple[RunOutcome | None, WorkflowClient, str]:
        services = services_of(self._step, None, DEFAULT_QUEUE_NAME, DEFAULT_KEEP)
        runs = runs_of(self._step, queue, services[0])
        handle = runs.submit(self._state)
        runs.send(handle.run_id, self._signals)
        drive = Drive(queue, clock, services, (crashes,), inside=using(queue, [self._step]))
        outcome = drive.to_end(handle.first_job_id)
        while outcome is not None and (outcome.error or "").startswith(SimulatedCrash.__name__):
            # It was its last attempt, which a real crash would have used up as well.
            runs.client.retry(outcome.run_id)
            outcome = drive.to_end(handle.first_job_id, after=outcome.termination)
        return outcome, runs.client, handle.run_id


def _name_of(step: object) -> str:
    """Return what a step, a flow or a runner is called in a message."""
    name: object = getattr(step, "name", None) or getattr(step, "__qualname__", None)
    return str(name or type(step).__qualname__)


def _call(function: Callback, queue: Queue) -> object:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin may tell nothing
        parameters = {}.values()
    wanted = [each for each in parameters if each.kind in _BY_PLACE and each.default is inspect.Parameter.empty]
    return cast(Any, function)(queue) if wanted else cast(Any, function)()


_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _copy(seen: object) -> object:
    """Return what was observed as it is now: a list that is cleared by the next setup would compare with itself."""
    try:
        return copy.deepcopy(seen)
    except Exception as error:
        raise TypeError(
            f"observe() returned a {type(seen).__name__} that cannot be copied ({error}); have it return plain values"
        ) from error


def _said(outcome: RunOutcome | None, client: WorkflowClient, run_id: str) -> str:
    if outcome is not None:
        return f"{outcome.status}" + (f" ({outcome.error})" if outcome.error else "")
    status = client.status(run_id)
    return "goes on" if status is None else f"waits for {status.waiting_for}"
