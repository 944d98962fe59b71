"""The straight-line style: one function whose calls are each made once, however often it begins anew."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import msgspec

from taquba_workflow_sync.errors import StepError
from taquba_workflow_sync.flow.annotations import called, parameters_of
from taquba_workflow_sync.flow.errors import FlowChangedError, FlowDefinitionError
from taquba_workflow_sync.flow.goto import Goto
from taquba_workflow_sync.flow.node import Node, Types
from taquba_workflow_sync.flow.step import Step, codec_of_return, flow_step
from taquba_workflow_sync.workflow.outcomes import OutcomeTypeError
from taquba_workflow_sync.workflow.runner import Step as StepOfRuntime
from taquba_workflow_sync.workflow.spec import flow_version

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Noted(msgspec.Struct, frozen=True):
    """One call as it is noted: of what, and what came of it."""

    call: str
    value: msgspec.Raw


_read = msgspec.json.Decoder(_Noted).decode
_write = msgspec.json.encode


class Do:
    """Makes the calls of a durable function, each once: ``do(function, *args, **kwargs)``.

    A call that has returned is noted in the step's memo, by its place among the calls and the function's qualified
    name. When the function begins anew, after a crash or an error, it gets what was noted and goes on behind it; so
    whatever decides about the calls must come from the state and from what they returned. Arguments are not compared.
    Up to 10,000 calls, whose results have up to 1 MiB each and 64 MiB together.
    """

    def __init__(self, step: Step, version: int) -> None:
        self._step = step
        self._version = version
        self._made = 0
        self._running: str | None = None
        self._thread = threading.get_ident()

    @property
    def step(self) -> Step:
        """The attempt that this is of: its memo, idempotency keys, cancel token."""
        return self._step

    @property
    def version(self) -> int:
        """The version of the flow that the run was submitted by."""
        return self._version

    def __call__(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Return what this call returned when it was first made; an exception is raised, and nothing noted.

        A call whose process dies before it is noted is made again. What it returned is read back by the function's
        return annotation, without one as plain JSON.

        Raises:
            FlowChangedError: permanent: the run has noted another call in this place.
            TypeError: permanent: the function has no name to be known by, or what it returned cannot be stored.
            RuntimeError: called from another thread, or by a function that ``do`` calls.
            FlowDefinitionError, ClaimLostError, MemoFullError, PayloadTooLargeError: as for ``step.once``.
        """
        name = _name_of(function)
        self._check_caller(name)
        codec = codec_of_return(function)
        place = self._made

        def produced() -> bytes:
            self._running = name
            try:
                returned = function(*args, **kwargs)
            finally:
                self._running = None
            try:
                return _write(_Noted(name, msgspec.Raw(codec.encode(returned, name))))
            except TypeError as error:
                raise OutcomeTypeError(str(error)) from None

        noted = _read(self._step.memo.call(f"do {place:05d}", produced))
        if noted.call != name:
            raise FlowChangedError(
                f"call {place + 1} is {name}, but when the run was here before it was {noted.call}: the function has"
                " changed, or its calls hang on something that does; retry(memo='clear') begins anew, where that is"
                " right"
            )
        self._made += 1
        try:
            value: _T = codec.decode(noted.value, name)
        except TypeError as error:
            raise StepError.permanent(f"what was noted of call {place + 1} does not fit: {error}") from None
        return value

    def _check_caller(self, name: str) -> None:
        if self._running is not None:
            raise RuntimeError(f"do({name}) was called by {self._running}, which do calls itself; call one by one")
        if threading.get_ident() != self._thread:
            raise RuntimeError(f"do({name}) was called from another thread; the places of calls would be chance")


def _name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", None)
    if not callable(function) or not isinstance(name, str) or isinstance(getattr(function, "_node", None), Node):
        raise OutcomeTypeError(f"do takes a plain function, not {function!r:.80}")
    if name.rpartition(".")[2] == "<lambda>":
        raise OutcomeTypeError(f"do takes no lambda ({name}): it has no name to be known by; make it a def")
    return name


class DurableNode(Node):
    """The one step of a durable flow: a function of its state and ``do``, or of ``do`` alone."""

    known: Mapping[str, Any] = {**Node.known, "Do": Do}
    given: type = Do

    def invoke(self, step: StepOfRuntime, state: Any) -> Any:
        """Call the function."""
        version = flow_version(step.headers)
        do = Do(flow_step(step), self.version if version is None else version)
        return self.function(state, do) if self.parameters else self.function(do)

    def behind_state(self) -> tuple[str, ...]:
        """Return the name of the parameter for ``do``, the last one."""
        return parameters_of(self.function, 2, "durable function")[-1:]

    def check_types(self, types: Types) -> None:
        """Refuse a function that would go on to another step: there is none."""
        if Goto in types.outcomes:
            raise FlowDefinitionError(
                f"{called(self.function)} returns a Goto, but a durable function is its flow's only step"
            )
