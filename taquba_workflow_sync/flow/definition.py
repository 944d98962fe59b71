"""A flow as it was put together: its steps by name, and whether they fit together."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from taquba_workflow_sync.flow.annotations import called, members, resolved, shown, union_of, wider
from taquba_workflow_sync.flow.codec import Codec
from taquba_workflow_sync.flow.errors import FlowDefinitionError
from taquba_workflow_sync.flow.models import field_names
from taquba_workflow_sync.flow.node import Node, codec_in

_NONE: Final = type(None)


class Definition:
    """The steps of one flow."""

    def __init__(self, name: str, version: int, said: Callable[[], tuple[Any, ...]]) -> None:
        """Make a definition without steps.

        ``said`` tells what the flow was said to take and to return, ``Flow[In, Out]``; empty: its steps alone say it.
        """
        self.name: str = name
        self.version: int = version
        self._said = said
        self.start: Node | None = None
        self.nodes: dict[str, Node] = {}
        self._by_name: dict[str, Node] = {}
        self._result: Codec[Any] | None = None
        self._is_checked = False

    def add(self, node: Node, *, is_start: bool) -> None:
        """Add a step, and resolve what can be by now.

        Raises:
            FlowDefinitionError: a name is taken, or the annotations are wrong whatever comes.
        """
        if is_start and self.start is not None:
            raise FlowDefinitionError(
                f"{called(node.function)}: flow {self.name!r} starts with {called(self.start.function)} already"
            )
        for name in (node.name, *node.options.formerly):
            other = self._by_name.get(name)
            if other is not None:
                raise FlowDefinitionError(
                    f"{called(node.function)}: flow {self.name!r} has a step {name!r} already,"
                    f" {called(other.function)}; give one of them another name="
                )
        try:
            node.try_to_resolve()
        except (NameError, AttributeError):
            pass  # something is defined further below, or in a module that is being imported: looked at again later
        for name in (node.name, *node.options.formerly):
            self._by_name[name] = node
        self.nodes[node.name] = node
        node.siblings = self.nodes
        if is_start:
            self.start = node
        self._is_checked = False

    def find(self, name: str) -> Node | None:
        """Return the step of a stored name."""
        return self._by_name.get(name)

    @property
    def first(self) -> Node:
        """The step that runs start with.

        Raises:
            FlowDefinitionError: there is none.
        """
        if self.start is None:
            raise FlowDefinitionError(f"flow {self.name!r} has no start: decorate a function with @flow.start")
        return self.start

    def check(self) -> None:
        """Check everything that could not be checked yet.

        Raises:
            FlowDefinitionError: names the function, and what of it is wrong.
        """
        if self._is_checked:
            return
        first = self.first
        for node in self.nodes.values():
            _ = node.types
        said = [self._type_of(each, first) for each in self._said()]
        if said:
            self._check_start(first, said[0])
            for node in self.nodes.values():
                self._check_results(node, said[1])
            returned = said[1]
        else:
            found = [each for node in self.nodes.values() for each in node.types.results]
            returned = union_of(found) if found else _NONE
        self._result = codec_in(returned, None, f"the result of flow {self.name!r}")
        for node in self.nodes.values():
            node.read_by(self._result)
        self._is_checked = True

    @property
    def result(self) -> Codec[Any]:
        """How results are read.

        Raises:
            FlowDefinitionError: the flow is not put together so that it could run.
        """
        self.check()
        assert self._result is not None
        return self._result

    def _check_start(self, first: Node, taken: Any) -> None:
        state = _NONE if first.types.state is None else first.types.state.type
        if state != taken and taken is not Any and state is not Any:
            raise FlowDefinitionError(
                f"{called(first.function)} takes {shown(state)}, but runs of flow {self.name!r} are submitted with"
                f" {shown(taken)}"
            )

    def _check_results(self, node: Node, returned: Any) -> None:
        allowed = members(returned)
        for each in node.types.results:
            if each in allowed or Any in (*allowed, each) or object in allowed:
                continue
            if all(part in allowed or any(_is_read_as(part, of) for of in allowed) for part in members(wider(each))):
                continue
            raise FlowDefinitionError(
                f"{called(node.function)} returns {shown(each)}, but a run of flow {self.name!r} results in"
                f" {shown(returned)}"
            )

    def _type_of(self, said: Any, first: Node) -> Any:
        """Return a type that the flow was made with; one that was said as a text is looked up beside its start."""
        if said is None:
            return _NONE
        if isinstance(said, typing.ForwardRef):
            said = said.__forward_arg__
        if not isinstance(said, str):
            return said
        names = getattr(inspect.unwrap(first.function), "__globals__", {})
        try:
            state = first.types.state
            own = {} if state is None else {getattr(state.type, "__name__", ""): state.type}  # it may be local
            return resolved({"said": said}, {**own, **names}, None, f"flow {self.name!r}")["said"]
        except (NameError, AttributeError) as error:
            raise FlowDefinitionError(
                f"flow {self.name!r} was made with {said!r}, which is not there: {error}"
            ) from error


def _is_read_as(narrower: Any, type_: Any) -> bool:
    """Whether what is written of a class can be read as one that it is derived from, without a loss.

    Where that hangs on the value, as for an ``Any``, it is looked at when the value is written.
    """
    if not isinstance(narrower, type) or type_ not in narrower.__mro__:  # not by issubclass: a TypedDict has none
        return False
    if issubclass(narrower, (bool, datetime)):
        return False  # true is no number in JSON, and a time of day is no part of a date
    names, of = field_names(narrower), field_names(type_)
    return of is None or names == of
