"""What ``@flow.start(...)`` and ``@flow.step(...)`` return: decorators that know what a step of the flow may return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from taquba_workflow_sync.flow.annotations import Scope, called, parameters_of, scope_of_caller
from taquba_workflow_sync.flow.definition import Definition
from taquba_workflow_sync.flow.durable import Do, DurableNode
from taquba_workflow_sync.flow.errors import FlowDefinitionError
from taquba_workflow_sync.flow.flow_step import FlowStep
from taquba_workflow_sync.flow.goto import Goto
from taquba_workflow_sync.flow.node import Node
from taquba_workflow_sync.flow.options import GivenOptions, checked_options
from taquba_workflow_sync.flow.step import Step
from taquba_workflow_sync.workflow.outcomes import Cancel, Fail

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_S = TypeVar("_S")


class StepDecorator(Generic[_Out]):
    """Makes a function a step of a flow."""

    def __init__(self, definition: Definition, options: GivenOptions) -> None:
        self._definition = definition
        self._options = options
        checked_options("step", **options)  # what is wrong with them is wrong in the line where they stand

    @overload
    def __call__(
        self, function: Callable[[_S, Step], _Out | Goto | Fail | Cancel], /
    ) -> FlowStep[_S, [_S, Step], _Out]: ...

    @overload
    def __call__(self, function: Callable[[_S], _Out | Goto | Fail | Cancel], /) -> FlowStep[_S, [_S], _Out]: ...

    @overload
    def __call__(self, function: Callable[[], _Out | Goto | Fail | Cancel], /) -> FlowStep[None, [], _Out]: ...

    def __call__(self, function: Any, /) -> Any:
        """Add the function to the flow.

        Raises:
            FlowDefinitionError: it cannot be a step, or its annotations are wrong.
        """
        return add_step(self._definition, function, self._options, scope_of_caller(1), is_start=False)


class StartDecorator(Generic[_In, _Out]):
    """Makes a function the start of a flow."""

    def __init__(self, definition: Definition, options: GivenOptions) -> None:
        self._definition = definition
        self._options = options
        checked_options("start", **options)

    @overload
    def __call__(
        self, function: Callable[[_In, Step], _Out | Goto | Fail | Cancel], /
    ) -> FlowStep[_In, [_In, Step], _Out]: ...

    @overload
    def __call__(self, function: Callable[[_In], _Out | Goto | Fail | Cancel], /) -> FlowStep[_In, [_In], _Out]: ...

    @overload
    def __call__(
        self: StartDecorator[None, _Out], function: Callable[[], _Out | Goto | Fail | Cancel], /
    ) -> FlowStep[None, [], _Out]: ...

    def __call__(self, function: Any, /) -> Any:
        """Add the function to the flow, as what its runs begin with.

        Raises:
            FlowDefinitionError: it cannot be a step, its annotations are wrong, or there is a start already.
        """
        return add_step(self._definition, function, self._options, scope_of_caller(1), is_start=True)


class DurableDecorator(Generic[_In, _Out]):
    """Makes a function the one step of a flow in the straight-line style."""

    def __init__(self, definition: Definition, options: GivenOptions) -> None:
        self._definition = definition
        self._options = options
        checked_options("durable", **options)

    @overload
    def __call__(self, function: Callable[[_In, Do], _Out | Fail | Cancel], /) -> FlowStep[_In, [_In, Do], _Out]: ...

    @overload
    def __call__(
        self: DurableDecorator[None, _Out], function: Callable[[Do], _Out | Fail | Cancel], /
    ) -> FlowStep[None, [Do], _Out]: ...

    def __call__(self, function: Any, /) -> Any:
        """Make the function the flow's one step.

        Raises:
            FlowDefinitionError: it cannot be one, its annotations are wrong, or the flow has steps.
        """
        return add_durable(self._definition, function, self._options, scope_of_caller(1))


def add_durable(definition: Definition, function: Any, options: GivenOptions, scope: Scope) -> FlowStep[Any, ..., Any]:
    """Make a function the one step of a flow and return it."""
    parameters = parameters_of(function, 2, "durable function")
    if not parameters:
        raise FlowDefinitionError(f"{called(function)} takes nothing; a durable function takes (state, do), or (do)")
    if definition.nodes:
        raise FlowDefinitionError(f"{called(function)} would be the only step, but the flow has {[*definition.nodes]}")
    node = DurableNode(
        definition.name,
        definition.version,
        function,
        parameters[:-1],
        checked_options(function.__name__, **options),
        scope,
    )
    definition.add(node, is_start=True)
    return FlowStep(node, definition)


def add_step(
    definition: Definition, function: Any, options: GivenOptions, scope: Scope, *, is_start: bool
) -> FlowStep[Any, ..., Any]:
    """Add a function to a flow and return the step that it is now."""
    parameters = parameters_of(function, 2, "step")
    if any(isinstance(each, DurableNode) for each in definition.nodes.values()):
        raise FlowDefinitionError(
            f"{called(function)}: flow {definition.name!r} has a durable function as its only step"
        )
    node = Node(
        definition.name,
        definition.version,
        function,
        parameters,
        checked_options(function.__name__, **options),
        scope,
    )
    definition.add(node, is_start=is_start)
    return FlowStep(node, definition)
