"""What a step's function takes and returns: its shape at once, its types as soon as annotations can be resolved."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from taquba_workflow_sync.flow.errors import FlowDefinitionError

_PLACES: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
#: An annotation that is not there.
MISSING: Final = inspect.Parameter.empty

Function = Callable[..., Any]


def called(function: object) -> str:
    """Return how a function is called in a message."""
    name = getattr(function, "__qualname__", None) or repr(function)
    return str(name)


def parameters_of(function: object, most: int, what: str) -> tuple[str, ...]:
    """Return the names of a function's parameters, all of them to be given by their place.

    Raises:
        FlowDefinitionError: it is no plain function, or cannot be called so.
    """
    name = called(function)
    if not inspect.isfunction(function):
        raise FlowDefinitionError(f"{name} is a {type(function).__name__}; a {what} is a plain function (def)")
    scope, _, last = function.__qualname__.rpartition(".")
    if scope and not scope.endswith("<locals>"):
        raise FlowDefinitionError(f"{name} is a method; a {what} is a plain function, outside of any class")
    if last == "<lambda>":
        raise FlowDefinitionError(f"{name} has no name to be stored by; a {what} is a plain function (def)")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise FlowDefinitionError(f"{name} is async; a {what} is called by a thread: make it a plain def")
    if inspect.isgeneratorfunction(function):
        raise FlowDefinitionError(f"{name} is a generator; a {what} returns once: make it return")
    names: list[str] = []
    for parameter in _signature(function).parameters.values():
        if parameter.kind in _PLACES:
            names.append(parameter.name)
        elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.default is MISSING:
            raise FlowDefinitionError(f"{name} has the parameter {parameter}, which nobody would give; {_takes(most)}")
    if len(names) > most:
        raise FlowDefinitionError(f"{name} takes {', '.join(names)}; {_takes(most)}")
    return tuple(names)


def _signature(function: Any) -> inspect.Signature:
    """Return how a function is to be called: as it says itself, or what it wraps if it passes on what it gets."""
    while True:
        own = inspect.signature(function, follow_wrapped=False)
        passes_on = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in own.parameters.values())
        if not passes_on or not hasattr(function, "__wrapped__"):
            return own
        function = function.__wrapped__


def _takes(most: int) -> str:
    return "it may take nothing, its state, or its state and the step" if most == 2 else f"it may take {most} arguments"


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a function was decorated, for as long as its annotations are not resolved: they may name what is local."""

    frame: types.FrameType | None

    @property
    def names(self) -> Mapping[str, Any] | None:
        """What is local there by now; None for a module, whose names the function knows by itself."""
        if self.frame is None or self.frame.f_locals is self.frame.f_globals:
            return None
        return self.frame.f_locals


def scope_of_caller(depth: int) -> Scope:
    """Return where the function ``depth`` calls above this one's caller stands."""
    frame = sys._getframe(depth + 1)
    return Scope(None if frame.f_locals is frame.f_globals else frame)


def hints_of(
    function: Function, wanted: Sequence[str], scope: Mapping[str, Any] | None, known: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the resolved annotations of a function, of the wanted ones: names of parameters, or ``return``.

    ``known`` are names that may be missing, since they were imported for type checkers alone.

    Raises:
        NameError, AttributeError: one names what is not there (yet).
        FlowDefinitionError: one is no type.
    """
    inner = inspect.unwrap(function)
    stated = {name: annotation for name, annotation in function.__annotations__.items() if name in wanted}
    return resolved(stated, {**known, **getattr(inner, "__globals__", {})}, scope, called(function))


def resolved(
    stated: Mapping[str, Any], globals_: dict[str, Any], scope: Mapping[str, Any] | None, where: str
) -> dict[str, Any]:
    """Return annotations with every name in them resolved."""

    def bearer() -> None:
        """Bear the annotations, for the one function that resolves them on every Python."""

    bearer.__annotations__ = dict(stated)
    try:
        return typing.get_type_hints(bearer, globals_, scope, include_extras=True)
    except (TypeError, SyntaxError, ValueError) as error:
        raise FlowDefinitionError(f"{where} has an annotation that is no type: {error}") from error


def members(type_: Any) -> tuple[Any, ...]:
    """Return what a union is of; another type is of itself."""
    value = getattr(type_, "__value__", None)  # type X = ..., since Python 3.12
    if value is not None and type(type_).__name__ == "TypeAliasType":
        return members(value)
    if typing.get_origin(type_) in (typing.Union, types.UnionType):
        return tuple(part for each in typing.get_args(type_) for part in members(each))
    return (type_,)


def union_of(types_: Sequence[Any]) -> Any:
    """Return the union of some types, at least one."""
    return typing.Union[tuple(types_)]  # noqa: UP007  # made of values


def wider(type_: Any) -> Any:
    """Return what values of a type are for JSON: of a NewType what it is made of, of a Literal what its values are."""
    if isinstance(type_, typing.NewType):
        return wider(type_.__supertype__)
    if typing.get_origin(type_) is typing.Annotated:
        return wider(typing.get_args(type_)[0])
    if typing.get_origin(type_) is typing.Literal:
        return union_of([type(each) for each in typing.get_args(type_)])
    return type_


def shown(type_: Any) -> str:
    """Return a type as it stands in a program."""
    if type_ is type(None):
        return "None"
    parts = members(type_)
    if len(parts) > 1:
        return " | ".join(map(shown, parts))
    return (
        type_.__name__ if isinstance(type_, type) and not typing.get_args(type_) else str(type_).replace("typing.", "")
    )


def settle_classes(type_: Any, scope: Mapping[str, Any] | None) -> bool:
    """Have the annotations of classes, which were made as texts beside local classes, name these; whether any does.

    A class of a function whose module postpones annotations cannot be read by anybody else later.
    """
    if scope is None:
        return False
    changed = False
    for cls in _classes(type_, set()):
        own = inspect.get_annotations(cls)
        texts = {name: each for name, each in own.items() if isinstance(each, str)}
        if not texts:
            continue
        module = sys.modules.get(cls.__module__)
        try:
            found = resolved(texts, dict(vars(module)) if module else {}, {**scope, cls.__name__: cls}, called(cls))
        except (NameError, AttributeError, FlowDefinitionError):
            continue
        cls.__annotations__ = {**own, **found}
        changed = True
    return changed


def _classes(type_: Any, seen: set[int]) -> Iterator[type]:
    if id(type_) in seen:
        return
    seen.add(id(type_))
    for part in (*members(type_), *typing.get_args(type_)):
        if isinstance(part, type) and part.__module__ != "builtins":
            if id(part) not in seen or part is type_:
                seen.add(id(part))
                yield part
                for each in list(getattr(part, "__annotations__", {}).values()):
                    yield from _classes(each, seen)
        elif part is not type_:
            yield from _classes(part, seen)
