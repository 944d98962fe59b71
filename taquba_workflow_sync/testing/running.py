"""A run of a flow, or of a low-level runner, from its submit to its end, with time moved instead of waited for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

from taquba_workflow_sync.outcome import RunOutcome, TerminalStatus
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.testing.clock import ManualClock
from taquba_workflow_sync.testing.crashes import Crashes
from taquba_workflow_sync.testing.doubles import RecordingHook
from taquba_workflow_sync.testing.driving import Drive, Inside
from taquba_workflow_sync.workflow.client import RunHandle, WorkflowClient
from taquba_workflow_sync.workflow.new_run import DEFAULT_KEEP, DEFAULT_QUEUE_NAME
from taquba_workflow_sync.workflow.runner import StepFunction, StepRunner
from taquba_workflow_sync.workflow.served import Runner, Served, Service, services_of

if TYPE_CHECKING:
    from taquba_workflow_sync.flow.beginning import Beginning
    from taquba_workflow_sync.flow.flow import Flow
    from taquba_workflow_sync.flow.flow_step import FlowStep

_In = TypeVar("_In")
_Out = TypeVar("_Out")

#: What is sent to a run: by name, or as pairs where several of one name are.
Signals = Mapping[str, Any] | Iterable[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Outcome(Generic[_Out]):
    """How a run ended. ``result`` is set if it succeeded, ``error`` if it failed, or was cancelled with a reason.

    ``run``: the same as hooks are told it, with its headers and times.
    """

    run_id: str
    status: TerminalStatus
    result: _Out | None
    error: str | None
    run: RunOutcome


class RunToEnd(Protocol):
    """What the fixture ``taquba_run`` is: :func:`run_to_end` on the test's own store."""

    @overload
    def __call__(
        self,
        flow: Flow[_In, _Out],
        state: _In,
        *,
        signals: Signals = (),
        also: Sequence[Served] = (),
        timeout: float = 30.0,
        **fields: Any,
    ) -> Outcome[_Out]: ...

    @overload
    def __call__(
        self,
        flow: Flow[None, _Out],
        state: None = None,
        *,
        signals: Signals = (),
        also: Sequence[Served] = (),
        timeout: float = 30.0,
        **fields: Any,
    ) -> Outcome[_Out]: ...

    @overload
    def __call__(
        self,
        flow: FlowStep[_In, ..., _Out],
        state: _In,
        *,
        signals: Signals = (),
        also: Sequence[Served] = (),
        timeout: float = 30.0,
        **fields: Any,
    ) -> Outcome[_Out]: ...

    @overload
    def __call__(
        self,
        flow: StepRunner | StepFunction,
        state: bytes,
        *,
        signals: Signals = (),
        also: Sequence[Served] = (),
        timeout: float = 30.0,
        **fields: Any,
    ) -> Outcome[bytes]: ...


def run_to_end(
    queue: Queue,
    clock: ManualClock,
    flow: Any,
    state: Any = None,
    *,
    signals: Signals = (),
    also: Sequence[Served] = (),
    timeout: float = 30.0,
    hook: RecordingHook | None = None,
    crashes: Sequence[Crashes] = (),
    **fields: Any,
) -> Outcome[Any]:
    """Submit a run and run it to its end, over delays, signals, groups and retries, without waiting for any of them.

    ``flow``: a Flow, whose ``state`` is what its runs take; a step of one, for a run that begins there; or a runner,
    whose ``state`` is bytes. ``signals`` are sent
    before the run begins, and stay until it asks for them. Whenever nothing can be done, ``clock``, which the queue was
    opened with, moves to when something is due. ``also``: other flows that are to be served meanwhile. ``fields``: as
    ``submit`` takes them, such as ``run_id``.

    In the steps and hooks the flows that are served work on ``queue``, wherever else they are bound to. When it
    returns, the hooks have been told, and what else could be done at once has been done.

    Raises:
        AssertionError: the run waits for what no time brings, such as a signal that was not given.
        TimeoutError: it has not ended within ``timeout`` seconds of real time.
        TypeError: an argument is wrong; and whatever a submit raises.
    """
    if not isinstance(clock, ManualClock):
        raise TypeError(f"clock must be the ManualClock that the queue was opened with, not {type(clock).__name__}")
    if is_flow_step(flow):
        flow, state = beginning(flow, state), None
    sent = pairs(signals)
    services = services_of(flow, None, DEFAULT_QUEUE_NAME, DEFAULT_KEEP)
    runs = runs_of(flow, queue, services[0])
    services += [each.service() for each in also]
    handle = runs.submit(state, **fields)
    found = runs.client.outcome(handle.run_id)
    if found is None:
        if handle.newly_submitted:
            runs.send(handle.run_id, sent)
        inside = using(queue, [flow, *also])
        found = Drive(queue, clock, services, crashes, hook, timeout, inside).to_end(handle.first_job_id)
    if found is None:
        is_paused = queue.stats(services[0].queue_name).paused
        raise AssertionError(_stuck(runs.client, handle.run_id, sent, is_paused=is_paused))
    is_success = found.status is TerminalStatus.SUCCEEDED
    return Outcome(found.run_id, found.status, runs.result(found) if is_success else None, found.error, found)


def pairs(signals: object) -> list[tuple[str, Any]]:
    """Return signals in the order in which they are sent.

    Raises:
        TypeError: they are none.
    """
    found = signals.items() if isinstance(signals, Mapping) else signals
    if isinstance(found, Iterable) and not isinstance(found, (str, bytes)):
        sent = list(found)
        if all(isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str) for each in sent):
            return sent
    raise TypeError(f"signals must be {{name: value}}, or pairs of both, not {signals!r:.80}")


def using(queue: Queue, flows: Sequence[object]) -> Inside:
    """Return what makes the context of steps: there the flows work on this store, wherever else they are bound to."""

    @contextmanager
    def inside() -> Iterator[None]:
        with ExitStack() as stack:
            for each in flows:
                if isinstance(each, Served) and hasattr(each, "using"):
                    stack.enter_context(each.using(queue))
            yield

    return inside


def is_flow_step(value: object) -> bool:
    """Whether it is a step of a flow; nothing is imported for the answer, since flows are an extra."""
    module = sys.modules.get("taquba_workflow_sync.flow.flow_step")
    return module is not None and isinstance(value, module.FlowStep)


def beginning(step: Any, state: Any) -> Beginning:
    """Return a step of a flow as a flow of its own, whose runs begin with it and this state."""
    from taquba_workflow_sync.flow.beginning import Beginning

    return Beginning(step, state)


class Runs:
    """Runs of a low-level runner: of bytes."""

    def __init__(self, client: WorkflowClient) -> None:
        self.client = client

    def send(self, run_id: str, signals: Iterable[tuple[str, Any]]) -> None:
        """Send signals, in order."""
        for name, value in signals:
            self.signal(run_id, name, value)

    def submit(self, state: Any, **fields: Any) -> RunHandle:
        """Submit a run."""
        return self.client.submit(input=b"" if state is None else state, **fields)

    def signal(self, run_id: str, name: str, value: Any) -> None:
        """Send a signal."""
        self.client.signal(run_id, name, value)

    def result(self, outcome: RunOutcome) -> Any:
        """Return the result of a run that succeeded."""
        return outcome.result


class _FlowRuns(Runs):
    """Runs of a flow: of what it takes and returns."""

    def __init__(self, flow: Flow[Any, Any], queue: Queue) -> None:
        super().__init__(flow.client(queue))
        self._flow = flow
        self._queue = queue

    def submit(self, state: Any, **fields: Any) -> RunHandle:
        return self._flow.submit(state, queue=self._queue, **fields)

    def signal(self, run_id: str, name: str, value: Any) -> None:
        self._flow.signal(run_id, name, value, queue=self._queue)

    def result(self, outcome: RunOutcome) -> Any:
        return self._flow.result_of(outcome)


def runs_of(flow: Runner, queue: Queue, service: Service) -> Runs:
    """Return how runs of a flow or a runner are submitted and read."""
    if isinstance(flow, Served):
        return _FlowRuns(cast("Flow[Any, Any]", flow), queue)
    return Runs(WorkflowClient(queue, queue_name=service.queue_name, keep_runs=service.keep_runs))


def _stuck(client: WorkflowClient, run_id: str, signals: Sequence[tuple[str, Any]], *, is_paused: bool) -> str:
    if is_paused:
        return f"run {run_id!r} has not ended: its queue {client.queue_name!r} is paused"
    status = client.status(run_id)
    waits = "nothing that time brings" if status is None else status.waiting_for or f"a worker ({status.state})"
    kind, _, name = waits.partition(":")
    hint = ""
    if kind == "signal":
        given = f" (given: {', '.join(each for each, _ in signals)})" if signals else ""
        hint = f"; give it by signals={{{name!r}: value}}{given}"
    elif kind == "group":
        hint = "; a member of it does not end: see its status, and serve its flow by also=[...]"
    return f"run {run_id!r} has not ended, and waits for {waits}{hint}"
