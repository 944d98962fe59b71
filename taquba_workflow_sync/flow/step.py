"""One attempt of a step of a flow: what the runtime's step has, and typed memos and signals."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, overload

from taquba_workflow_sync.errors import StepError
from taquba_workflow_sync.flow.annotations import MISSING, called, hints_of
from taquba_workflow_sync.flow.codec import Codec
from taquba_workflow_sync.flow.errors import FlowDefinitionError
from taquba_workflow_sync.workflow.runner import Step as StepOfRuntime

_P = ParamSpec("_P")
_T = TypeVar("_T")


@functools.lru_cache(maxsize=512)
def codec_of(type_: Any) -> Codec[Any]:
    """Return the codec of a type.

    Raises:
        FlowDefinitionError: JSON cannot hold such values.
        NameError: an annotation of a class cannot be resolved.
    """
    return Codec(type_)


@dataclass(frozen=True, slots=True, eq=False)
class Step(StepOfRuntime):
    """One attempt of one step, as a flow's function has it: see ``taquba_workflow_sync.Step`` for the rest of it."""

    def once(self, name: str, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Return what ``function`` returned when this step first got through it: a memo, through the codec.

        ``name`` is the memo's key. What is noted is durable on return and never asked for again, however often the
        step is repeated; an exception is raised and nothing noted. It is read back by the function's return
        annotation, without one as plain JSON. A call whose process dies before it is noted is made again: give the
        other side ``step.idempotency_key(name)``.

        Raises:
            TypeError: what it returned does not fit its annotation, or cannot be stored; nothing was noted.
            FlowDefinitionError: its annotation cannot be resolved, or JSON cannot hold such a value.
            ClaimLostError, MemoFullError, PayloadTooLargeError, ValueError: as for ``step.memo.call``.
        """
        codec = codec_of_return(function)
        root = called(function)

        def encoded() -> bytes:
            return codec.encode(function(*args, **kwargs), root)

        value: _T = codec.decode(self.memo.call(name, encoded), root)
        return value

    @overload
    def signal_as(self, type_: type[_T], /) -> _T | None: ...

    @overload
    def signal_as(self, type_: Any, /) -> Any: ...

    def signal_as(self, type_: Any, /) -> Any:
        """Return what the signal brought, as a value of a type; None if the timeout came first, or nothing was sent.

        Raises:
            StepError: permanent: what was sent does not fit; names the signal and the path.
            FlowDefinitionError: JSON cannot hold such values.
        """
        if self.signal is None:
            return None
        try:
            return codec_of(type_).decode(self.signal.payload, self.signal.name)
        except TypeError as error:
            raise StepError.permanent(f"signal {self.signal.name!r} does not fit: {error}") from None


def flow_step(step: StepOfRuntime) -> Step:
    """Return a runtime's step as a flow's."""
    return Step(
        step.run_id,
        step.step_number,
        step.payload,
        step.headers,
        step.job_id,
        step.attempts,
        step.max_attempts,
        step.cancel_token,
        step.stopping,
        step.signal,
        step.wait_timed_out,
        step.label,
        step._claim,
    )


def codec_of_return(function: Callable[..., Any]) -> Codec[Any]:
    """Return the codec of what a function returns, by its annotation; plain JSON where it has none.

    Raises:
        FlowDefinitionError: the annotation cannot be resolved, or JSON cannot hold such a value.
    """
    return codec_of(_return_of(function))


def _return_of(function: Any) -> Any:
    if isinstance(function, type):
        return function
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if not inspect.isroutine(function) and not hasattr(function, "__annotations__"):
        function = type(function).__call__
    if not hasattr(function, "__annotations__") or "return" not in function.__annotations__:
        return Any
    try:
        found = hints_of(function, ("return",), _locals_of(function), {}).get("return", MISSING)
    except (NameError, AttributeError) as error:
        raise FlowDefinitionError(f"{called(function)} returns what cannot be resolved: {error}") from error
    return Any if found is MISSING or isinstance(found, TypeVar) else found


def _locals_of(function: Any) -> dict[str, Any] | None:
    """Return what is local where a nested function was called from, if its return annotation may name it."""
    if "<locals>" not in getattr(function, "__qualname__", ""):
        return None
    names: dict[str, Any] = {}
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_locals is not frame.f_globals:
            names = {**frame.f_locals, **names}
    return names
