"""A step of a flow as a worker runs it: its state read, its function called, what that returned checked and written."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final, Never, NoReturn

from taquba_workflow_sync.errors import StepError
from taquba_workflow_sync.flow.annotations import (
    MISSING,
    Scope,
    called,
    hints_of,
    members,
    settle_classes,
    shown,
    union_of,
    wider,
)
from taquba_workflow_sync.flow.codec import Codec
from taquba_workflow_sync.flow.errors import FlowDefinitionError
from taquba_workflow_sync.flow.goto import Goto
from taquba_workflow_sync.flow.options import StepOptions
from taquba_workflow_sync.flow.routing import Wrapping
from taquba_workflow_sync.flow.step import Step, flow_step
from taquba_workflow_sync.flow.upgrade import Upgrades
from taquba_workflow_sync.workflow.outcomes import Cancel, Fail, StepOutcome, Succeed
from taquba_workflow_sync.workflow.runner import Step as StepOfRuntime

_VERDICTS: Final = (Goto, Fail, Cancel)
_NONE: Final = type(None)
_NOTHING: Final = (NoReturn, Never)


class Types:
    """What a step takes and returns, resolved."""

    __slots__ = ("allows_none", "outcomes", "result", "results", "said", "state")

    def __init__(self, state: Codec[Any] | None, returned: Any, result: Codec[Any] | None) -> None:
        parts = members(returned)
        self.state: Codec[Any] | None = state
        self.outcomes: tuple[type, ...] = tuple(each for each in _VERDICTS if each in parts)
        self.results: tuple[Any, ...] = results_of(returned)
        self.allows_none: bool = any(
            part in (_NONE, Any, object) for each in self.results for part in members(wider(each))
        )
        self.result: Codec[Any] | None = result
        self.said: str = shown(returned)


def results_of(returned: Any) -> tuple[Any, ...]:
    """Return what of a return annotation are results of the run."""
    return tuple(each for each in members(returned) if each not in _VERDICTS and each not in _NOTHING)


class Node:
    """One step. ``flow`` and ``version`` are its flow's."""

    #: What may stand in annotations without being there at runtime: imported for type checkers alone.
    known: Mapping[str, Any] = {"Goto": Goto, "Fail": Fail, "Cancel": Cancel, "Step": Step}
    #: What its function is given beside the state.
    given: type = Step

    def __init__(
        self,
        flow: str,
        version: int,
        function: Callable[..., Any],
        parameters: tuple[str, ...],
        options: StepOptions,
        scope: Scope,
    ) -> None:
        self.flow: str = flow
        self.version: int = version
        self.function: Callable[..., Any] = function
        self.parameters: tuple[str, ...] = parameters
        self.options: StepOptions = options
        self.name: str = options.name
        #: What paths into the state begin with.
        self.root: str = parameters[0] if parameters else "state"
        self.wrap: Wrapping = Wrapping(options.name, version)
        self._scope: Scope | None = scope
        self._types: Types | None = None
        self._many = len(parameters)
        self._reader: Codec[Any] | None = None
        #: The steps of its flow.
        self.siblings: Mapping[str, Node] = {}
        self.upgrades: Upgrades = Upgrades()

    @functools.cached_property
    def types(self) -> Types:
        """What it takes and returns.

        Raises:
            FlowDefinitionError: an annotation is missing, cannot be resolved, or is of what cannot be stored.
        """
        if self._types is None:
            try:
                self.try_to_resolve()
            except (NameError, AttributeError) as error:
                name = getattr(error, "name", None) or str(error)
                raise FlowDefinitionError(
                    f"{called(self.function)}: an annotation names {name!r}, which is not there: {error}; import it"
                    " where the program runs, not for type checkers alone"
                ) from error
            assert self._types is not None
        return self._types

    def try_to_resolve(self) -> None:
        """Resolve the annotations if everything that they name is there.

        Raises:
            NameError, AttributeError: it is not, yet.
            FlowDefinitionError: they are wrong whatever comes.
        """
        scope = None if self._scope is None else self._scope.names
        wanted = (*self.parameters[:1], "return")
        hints = hints_of(self.function, wanted, scope, self.known)
        name = called(self.function)
        self._check_given(hints, scope)
        for each in wanted:
            if hints.get(each, MISSING) is MISSING:
                what = "what it returns" if each == "return" else f"the type of {each}"
                raise FlowDefinitionError(f"{name} does not say {what}: annotate it, a step's types are its contract")
        returned = hints["return"]
        results = results_of(returned)
        state = codec_in(hints[self.parameters[0]], scope, name) if self.parameters else None
        result = codec_in(union_of(results), scope, name) if results and results != (_NONE,) else None
        types = Types(state, returned, result)
        self.check_types(types)
        self._types = types
        self._scope = None  # frames are held for no longer than they are needed

    def behind_state(self) -> tuple[str, ...]:
        """Return the name of the parameter that is given what comes beside the state, if it takes that."""
        return self.parameters[1:]

    def _check_given(self, hints: Mapping[str, Any], scope: Mapping[str, Any] | None) -> None:
        """Refuse a function that would be given something else than it says."""
        name, what = called(self.function), self.given.__name__
        for parameter in self.parameters[:1]:
            if any(isinstance(each, type) and issubclass(each, self.given) for each in members(hints.get(parameter))):
                raise FlowDefinitionError(
                    f"{name} takes the {what} as {parameter}, its first argument; that is its state, the {what} comes"
                    " behind it"
                )
        for parameter in self.behind_state():
            try:
                said = hints_of(self.function, (parameter,), scope, self.known).get(parameter, Any)
            except (NameError, AttributeError):
                continue  # imported for type checkers alone: nobody needs it here
            if not any(each in (Any, object) or each in self.given.__mro__ for each in members(said)):
                raise FlowDefinitionError(
                    f"{name} says that {parameter} is {shown(said)}, but behind its state it is given the {what}"
                )

    def check_types(self, types: Types) -> None:
        """Refuse what a step of this kind must not take or return.

        Raises:
            FlowDefinitionError: it does.
        """

    def encode(self, state: object) -> bytes:
        """Return a state as it is stored.

        Raises:
            TypeError: it does not fit; names the path.
            FlowDefinitionError: the step's annotations are wrong.
        """
        codec = self.types.state
        if codec is None:
            if state is not None:
                raise TypeError(f"step {self.name!r} takes no state, so it cannot be given {type(state).__name__}")
            return b"null"
        return codec.encode(state, self.root)

    def decode(self, data: Any, version: int | None) -> Any:
        """Return a state that was stored by a version of the program.

        Raises:
            StepError: permanent: it does not fit; names step and path.
            FlowDefinitionError: the step's annotations are wrong.
        """
        codec = self.types.state
        if codec is None:
            return None
        try:
            if version is not None and version < self.version and self.upgrades.is_needed(version):
                data = codec.encode(self.upgrades.apply(self.name, version, data), self.root)
            return codec.decode(data, self.root)
        except TypeError as error:
            raise StepError.permanent(f"the stored state does not fit step {self.name!r}: {error}") from None

    def run(self, step: StepOfRuntime, state: Any) -> StepOutcome:
        """Run the step on its state, and return what is to be stored of what it came to."""
        returned = self.call(step, state)
        if type(returned) is Goto:
            return returned.outcome
        if isinstance(returned, (Fail, Cancel)):
            return returned
        return Succeed(self.encode_result(returned))

    def call(self, step: StepOfRuntime, state: Any) -> Any:
        """Call the function and return what it returned, if it may.

        Raises:
            StepError: permanent: it returned what its annotation does not say, or raised what no retry can help.
        """
        try:
            returned = self.invoke(step, state)
        except Exception as error:
            verdict = self.options.verdict(error)
            if verdict is None:
                raise
            raise verdict from error
        self._check(returned)
        return returned

    def invoke(self, step: StepOfRuntime, state: Any) -> Any:
        """Call the function with as much as it takes."""
        if self._many == 2:
            return self.function(state, flow_step(step))
        return self.function(state) if self._many else self.function()

    def _check(self, returned: object) -> None:
        types = self.types
        kind = type(returned)
        if kind in _VERDICTS:
            if kind not in types.outcomes:
                raise self._wrong(returned)
            if kind is Goto:
                target = returned.step  # type: ignore[attr-defined]  # it is a Goto
                if target.flow != self.flow:
                    raise StepError.permanent(
                        f"step {self.name!r} of flow {self.flow!r} went to step {target.name!r} of {target.flow!r};"
                        " a run stays in its flow: submit a run of the other one"
                    )
                if target.name not in self.siblings:
                    raise StepError.permanent(
                        f"step {self.name!r} went to step {target.name!r}, which its flow {self.flow!r} has not: it is"
                        " of another Flow that has the same name"
                    )
        elif returned is None:
            if not types.allows_none:
                raise self._wrong(returned)
        elif not types.results or types.results == (_NONE,):
            raise self._wrong(returned)

    def read_by(self, reader: Codec[Any]) -> None:
        """Have results be what their flow results in, too: whoever reads one knows the flow, not its step."""
        own = self.types.result
        self._reader = None if own is None or own.type == reader.type or reader.type is Any else reader

    def encode_result(self, value: object) -> bytes:
        """Return a result as it is stored.

        Raises:
            StepError: permanent: it is not what the annotation says, or not what the flow results in; names the path.
        """
        codec = self.types.result
        if codec is None:
            return b"null"
        try:
            data = codec.encode(value, "result")
        except TypeError as error:
            raise StepError.permanent(f"{self._said(value)}: {error}") from None
        if self._reader is not None:
            try:
                self._reader.encode(value, "result")
            except TypeError as error:
                raise StepError.permanent(
                    f"step {self.name!r} returned {type(value).__name__}; a run of flow {self.flow!r} results in"
                    f" {shown(self._reader.type)}: {error}"
                ) from None
        return data

    def _wrong(self, returned: object) -> StepError:
        return StepError.permanent(self._said(returned))

    def _said(self, returned: object) -> str:
        what = "None (is a return missing?)" if returned is None else type(returned).__name__
        return f"step {self.name!r} returned {what}; its annotation says {self.types.said}"


def codec_in(type_: Any, scope: Mapping[str, Any] | None, where: str) -> Codec[Any]:
    """Return the codec of a type whose classes may be local to a scope.

    Raises:
        NameError: an annotation of a class cannot be resolved (yet).
        FlowDefinitionError: JSON cannot hold such values; says where.
    """
    try:
        try:
            return Codec(Any if type_ is object else type_)
        except NameError:
            if not settle_classes(type_, scope):
                raise
            return Codec(type_)
    except FlowDefinitionError as error:
        raise FlowDefinitionError(f"{where}: {error}") from error
