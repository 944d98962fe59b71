"""A flow: typed functions as the steps of a run, and the runs of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar, Unpack, cast, get_args, overload

from taquba_workflow_sync.flow.annotations import scope_of_caller
from taquba_workflow_sync.flow.binding import Binding, Source
from taquba_workflow_sync.flow.decorators import DurableDecorator, StartDecorator, StepDecorator, add_durable, add_step
from taquba_workflow_sync.flow.definition import Definition
from taquba_workflow_sync.flow.durable import Do
from taquba_workflow_sync.flow.errors import FlowDefinitionError
from taquba_workflow_sync.flow.flow_step import FlowStep
from taquba_workflow_sync.flow.goto import Goto
from taquba_workflow_sync.flow.graph import Graph, graph_of, is_of_newer
from taquba_workflow_sync.flow.options import GivenOptions
from taquba_workflow_sync.flow.running import run_step
from taquba_workflow_sync.flow.step import Step
from taquba_workflow_sync.flow.submitting import Submitting
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.hooks import Hook
from taquba_workflow_sync.workflow.new_run import DEFAULT_KEEP, checked_queue_name
from taquba_workflow_sync.workflow.outcomes import Cancel, Fail, StepOutcome
from taquba_workflow_sync.workflow.runner import Step as StepOfRuntime
from taquba_workflow_sync.workflow.served import Service

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_S = TypeVar("_S")
_Hook = TypeVar("_Hook", bound=Hook)

#: A run that should exist: its id and its state, and what else its submit says.
MissingRun = tuple[str, _In] | tuple[str, _In, Mapping[str, Any]]


class Flow(Submitting[_In, _Out], Generic[_In, _Out]):
    """Typed functions as the steps of runs that take an ``In`` and result in an ``Out``: ``Flow[In, Out]("orders")``.

    A flow serves the queue of its name. It is a runner: give it, or a list of flows, to a ``WorkflowRuntime``.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int = 1,
        keep_runs: Duration | None = DEFAULT_KEEP,
        store: str = "default",
    ) -> None:
        """Make a flow without steps; decorate functions with :meth:`start` and :meth:`step`.

        ``name`` is that of its queue. ``version``: raise it when a stored state of the version before must not be taken
        up by workers that are older. ``keep_runs``: how long a run shows after its end; None: not at all. ``store``:
        which of an application's stores binds it, where there are several.

        Raises:
            TypeError, ValueError, InvalidNameError: an argument is wrong.
        """
        #: What its queue is called.
        self.name: str = checked_queue_name(name)
        self.version: int = validation.integer(version, "version", least=1)
        if keep_runs is not None:
            validation.duration_ms(keep_runs, "keep_runs")
        validation.instance(store, str, "store")
        self.keep_runs: Duration | None = keep_runs
        self.store: str = store
        self._keep_runs = keep_runs
        self._definition = Definition(self.name, self.version, self._said)
        self._binding = Binding(self.name)
        self._hook: Hook | None = None
        #: What yields the runs that should exist, if :meth:`missing` was given it.
        self.find_missing: Callable[[], Iterable[MissingRun[_In]]] | None = None

    def __repr__(self) -> str:
        return f"Flow({self.name!r}, version={self.version})"

    def _said(self) -> tuple[Any, ...]:
        """Return what the flow was made with, ``Flow[In, Out]``; that is known only once it is made."""
        return get_args(getattr(self, "__orig_class__", None))

    @overload
    def start(
        self, function: Callable[[_In, Step], _Out | Goto | Fail | Cancel], /
    ) -> FlowStep[_In, [_In, Step], _Out]: ...

    @overload
    def start(self, function: Callable[[_In], _Out | Goto | Fail | Cancel], /) -> FlowStep[_In, [_In], _Out]: ...

    @overload
    def start(
        self: Flow[None, _Out], function: Callable[[], _Out | Goto | Fail | Cancel], /
    ) -> FlowStep[None, [], _Out]: ...

    @overload
    def start(self, /, **options: Unpack[GivenOptions]) -> StartDecorator[_In, _Out]: ...

    def start(self, function: Any = None, /, **options: Any) -> Any:
        """Make a function what runs begin with: ``@flow.start``, or ``@flow.start(max_attempts=5)``.

        It takes nothing, what was submitted, or that and the :class:`Step`. The options are those of :meth:`step`.

        Raises:
            FlowDefinitionError: it cannot be a step, its annotations are wrong, or there is a start already.
            TypeError, ValueError: an option is wrong.
        """
        if function is None:
            return StartDecorator[Any, Any](self._definition, _checked(options))
        return add_step(self._definition, function, _checked(options), scope_of_caller(1), is_start=True)

    @overload
    def step(
        self, function: Callable[[_S, Step], _Out | Goto | Fail | Cancel], /
    ) -> FlowStep[_S, [_S, Step], _Out]: ...

    @overload
    def step(self, function: Callable[[_S], _Out | Goto | Fail | Cancel], /) -> FlowStep[_S, [_S], _Out]: ...

    @overload
    def step(self, function: Callable[[], _Out | Goto | Fail | Cancel], /) -> FlowStep[None, [], _Out]: ...

    @overload
    def step(self, /, **options: Unpack[GivenOptions]) -> StepDecorator[_Out]: ...

    def step(self, function: Any = None, /, **options: Any) -> Any:
        """Make a function a step: ``@flow.step``, or ``@flow.step(max_attempts=10, backoff=(1, 600), timeout=30)``.

        It takes nothing, its state, or that and the :class:`Step`; its state is what it is gone to with.

        ``name``: what it is stored by (default: the function's name); ``formerly``: what it was stored by before.
        ``max_attempts``, ``backoff``, ``timeout``, ``priority``: this step's own, else those of the run.
        ``retry_on``: exceptions worth a retry; every other one is permanent then. ``fail_on``: exceptions that are
        permanent, whatever ``retry_on`` says.

        Raises:
            FlowDefinitionError: it cannot be a step, its annotations are wrong, or its name is taken.
            TypeError, ValueError: an option is wrong.
        """
        if function is None:
            return StepDecorator[Any](self._definition, _checked(options))
        return add_step(self._definition, function, _checked(options), scope_of_caller(1), is_start=False)

    @overload
    def durable(self, function: Callable[[_In, Do], _Out | Fail | Cancel], /) -> FlowStep[_In, [_In, Do], _Out]: ...

    @overload
    def durable(
        self: Flow[None, _Out], function: Callable[[Do], _Out | Fail | Cancel], /
    ) -> FlowStep[None, [Do], _Out]: ...

    @overload
    def durable(self, /, **options: Unpack[GivenOptions]) -> DurableDecorator[_In, _Out]: ...

    def durable(self, function: Any = None, /, **options: Any) -> Any:
        """Make a function of (state, do) the flow's start and only step, in the straight-line style; see :class:`Do`.

        It cannot sleep or wait for a signal: that takes steps. The options are those of :meth:`step`.

        Raises:
            FlowDefinitionError: it cannot be one, its annotations are wrong, or the flow has steps.
            TypeError, ValueError: an option is wrong.
        """
        if function is None:
            return DurableDecorator[Any, Any](self._definition, _checked(options))
        return add_durable(self._definition, function, _checked(options), scope_of_caller(1))

    def upgrade(
        self, step: FlowStep[_S, ..., Any], *, since: int
    ) -> Callable[[Callable[[Any], _S | dict[str, Any]]], Callable[[Any], _S | dict[str, Any]]]:
        """Have states of a step that versions before ``since`` have written go through a function first.

        It gets the old state as plain JSON (dicts, lists, texts, numbers) and returns a new one. Of several upgrades
        those that an old state needs are applied in order; what one returns the next one gets as JSON.

        Raises:
            FlowDefinitionError: the step is none of this flow, has such an upgrade already, or ``since`` is no version
                from 2 to the flow's.
        """
        name = self._own(step)
        if name is None:
            raise FlowDefinitionError(f"{step!r} is no step of flow {self.name!r}")
        if validation.integer(since, "since", least=1) > self.version or since < 2:
            raise FlowDefinitionError(
                f"the upgrade of step {name!r} is since version {since}; flow {self.name!r} has version {self.version},"
                " so it must be 2 or more and no more than that"
            )
        upgrades = self._definition.nodes[name].upgrades

        def add(function: Callable[[Any], _S | dict[str, Any]]) -> Callable[[Any], _S | dict[str, Any]]:
            upgrades.add(name, since, function)
            return function

        return add

    def graph(self) -> Graph:
        """Return the steps and the ways between them that the source shows; what cannot be told is left out.

        Raises:
            FlowDefinitionError: the flow has no start.
        """
        return graph_of(self._definition, self._own)

    def _graph_text(self, stored: str | None) -> str:
        """Return the graph to register in place of one: that of a newer version stays while old workers still start."""
        return stored if stored is not None and is_of_newer(stored, self.version) else self.graph().to_json()

    def _own(self, value: object) -> str | None:
        """Return the name of a step of this flow; None: it is none."""
        # By its type: isinstance would have a proxy, such as frameworks make, fetch what it stands for.
        node = cast(FlowStep[Any, ..., Any], value)._node if issubclass(type(value), FlowStep) else None
        return node.name if node is not None and self._definition.nodes.get(node.name) is node else None

    def on_end(self, hook: _Hook, /) -> _Hook:
        """Have a hook told how each run ended: ``@flow.on_end`` over a function of the outcome; see ``TerminalHook``.

        The outcome's result is JSON; :meth:`result_of` reads it.

        Raises:
            FlowDefinitionError: there is one already.
            TypeError: it is none.
        """
        if self._hook is not None:
            raise FlowDefinitionError(f"flow {self.name!r} has an on_end already; call both from one function")
        if not callable(hook) and not callable(getattr(hook, "on_termination", None)):
            raise TypeError(
                f"on_end takes a function or an object with a method on_termination, not {type(hook).__name__}"
            )
        self._hook = hook
        return hook

    def missing(self, function: Callable[[], Iterable[MissingRun[_In]]], /) -> Callable[[], Iterable[MissingRun[_In]]]:
        """Register a function that yields the run id and the state of each run that should exist: ``@flow.missing``.

        Behind them it may yield a mapping of the fields of :class:`RunSpec` that the run was to be submitted with.
        Whoever repairs asks it and submits those that there is no run of; see ``contrib.django``.

        Raises:
            FlowDefinitionError: there is one already.
            TypeError: it is no function.
        """
        if self.find_missing is not None:
            raise FlowDefinitionError(f"flow {self.name!r} has a missing already; yield all from one function")
        if not callable(function):
            raise TypeError(f"missing takes a function, not {type(function).__name__}")
        self.find_missing = function
        return function

    def bind(self, queue: Source | None) -> None:
        """Have the flow work on a store wherever none is said; a function is asked for it each time. None: on none.

        Raises:
            TypeError: it is neither a Queue nor callable.
        """
        self._binding.bind(queue)

    def using(self, queue: Queue) -> AbstractContextManager[Queue]:
        """Return a context in which the flow works on a store, in this thread: ``with flow.using(queue): ...``.

        Raises:
            TypeError: ``queue`` is none.
        """
        return self._binding.using(queue)

    def check(self) -> None:
        """Check that the flow is put together so that it can run; a runtime's start and the first submit do so, too.

        Raises:
            FlowDefinitionError: names the function, and what of it is wrong.
        """
        self._definition.check()

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of its steps, in the order of their definition."""
        return tuple(self._definition.nodes)

    def run_step(self, step: StepOfRuntime) -> StepOutcome:
        """Run one step, as a runtime does: a flow is a ``StepRunner``."""
        return run_step(self._definition, step)

    def service(self) -> Service:
        """Return what a runtime needs to serve this flow's queue."""
        return Service(
            self.name, self.run_step, self._hook, self.keep_runs, lambda queue: self.check(), self._graph_text
        )


def _checked(options: dict[str, Any]) -> GivenOptions:
    """Return options that are those of a step.

    Raises:
        TypeError: one is not.
    """
    unknown = sorted(options.keys() - GivenOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"{', '.join(unknown)}: no option of a step; it has {', '.join(GivenOptions.__annotations__)}")
    return cast(GivenOptions, options)
