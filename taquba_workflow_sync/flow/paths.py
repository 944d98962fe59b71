"""Where in a value something is wrong: a path such as ``order.items[3].price``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

#: What an encoder raises for what it cannot write.
UNWRITABLE: Final = (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError)


class NotFinite(TypeError):
    """A number that JSON has no word for: it would be written as null."""


class Difference(NamedTuple):
    """Where two values first differ, and what each has there."""

    path: str
    given: str
    back: str


def difference(given: Any, back: Any, path: str) -> Difference | None:
    """Return where two values of JSON differ first; None: nowhere."""
    if isinstance(given, dict) and isinstance(back, dict):
        for key in [*given, *(key for key in back if key not in given)]:
            if key not in given:
                return Difference(f"{path}.{key}", "nothing", _shown(back[key]))
            if key not in back:
                return Difference(f"{path}.{key}", _shown(given[key]), "nothing")
            found = difference(given[key], back[key], f"{path}.{key}")
            if found is not None:
                return found
        return None
    if isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        for index, (one, other) in enumerate(zip(given, back, strict=True)):
            found = difference(one, other, f"{path}[{index}]")
            if found is not None:
                return found
        return None
    if type(given) is type(back) and given == back:
        return None
    return Difference(path, _shown(given), _shown(back))


def not_finite(value: Any, path: str) -> Difference | None:
    """Return where a value, which contains no circle, has a float that is not finite; None: nowhere."""
    if isinstance(value, float):
        return None if math.isfinite(value) else Difference(path, str(value), "null")
    for part, inner in _children(value, path):
        found = not_finite(inner, part)
        if found is not None:
            return found
    return None


def unencodable(value: Any, path: str, encode: Callable[[Any], bytes], error: Exception) -> str:
    """Return which part of a value cannot be written as JSON, and why: the deepest that cannot by itself."""
    for _ in range(64):  # far deeper than any state; a value that contains itself has no end
        for part, inner in _children(value, path):
            try:
                encode(inner)
            except UNWRITABLE as deeper:
                value, path, error = inner, part, deeper
                break
        else:
            break
    if isinstance(error, RecursionError):
        return f"{path}: contains itself, or is nested too deeply"
    if isinstance(error, NotImplementedError) or "unsupported" in str(error):
        return f"{path}: a {type(value).__name__} cannot be stored as JSON"
    return f"{path}: {error}"


def _children(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield f"{path}.{key}", each
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, each in enumerate(value):
            yield f"{path}[{index}]", each
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if hasattr(value, field.name):
                yield f"{path}.{field.name}", getattr(value, field.name)
    else:
        kind = type(value)
        for name in getattr(kind, "__struct_fields__", None) or getattr(kind, "model_fields", None) or ():
            if hasattr(value, name):
                yield f"{path}.{name}", getattr(value, name)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
