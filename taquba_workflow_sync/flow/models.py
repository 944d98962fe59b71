"""What msgspec does not know by itself: pydantic models, where they are installed; and what cannot be stored at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec

from taquba_workflow_sync.flow.errors import FlowDefinitionError


def _is_model(type_: object) -> bool:
    """Whether it is a class of pydantic: known by what it can do, so that nothing is imported for those without."""
    return isinstance(type_, type) and hasattr(type_, "model_validate_json") and hasattr(type_, "model_dump")


def as_builtins(value: Any) -> Any:
    """Return a value that msgspec cannot encode as one that it can.

    Raises:
        NotImplementedError: there is none.
    """
    if _is_model(type(value)):
        return value.model_dump(mode="json", by_alias=True, warnings=False)
    raise NotImplementedError(type(value).__name__)


def of_builtins(type_: Any, value: Any) -> Any:
    """Return the value of a type that msgspec does not know.

    Raises:
        ValueError: it does not fit; the message has the path below it between two marks.
        NotImplementedError: the type is no model.
    """
    if not _is_model(type_):
        raise NotImplementedError(getattr(type_, "__name__", str(type_)))
    try:
        # As JSON: its strict mode takes a text for a date there, as it must, and only there.
        return type_.model_validate_json(msgspec.json.encode(value), strict=True)
    except ValueError as error:
        details = cast(Any, error).errors() if hasattr(error, "errors") else []
        if not details:
            raise
        first = details[0]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise ValueError(f"\x01{path}\x01{first['msg']}") from None


def check_storable(type_: Any) -> None:
    """Refuse a type of which a part cannot be stored as JSON.

    Raises:
        FlowDefinitionError: names the part.
    """
    for part in _parts(msgspec.inspect.type_info(type_), set()):
        if isinstance(part, msgspec.inspect.CustomType) and not _is_model(part.cls):
            name = getattr(part.cls, "__qualname__", str(part.cls))
            raise FlowDefinitionError(
                f"{name} cannot be stored as JSON; use a dataclass, TypedDict, msgspec.Struct or pydantic model"
            )


def field_names(type_: type) -> set[str] | None:
    """Return what the fields of a class are called as JSON; None: it has none."""
    if _is_model(type_):
        return {field.alias or name for name, field in cast(Any, type_).model_fields.items()}
    fields = getattr(msgspec.inspect.type_info(type_), "fields", None)
    return None if fields is None else {each.encode_name for each in fields}


def _parts(info: Any, seen: set[int]) -> Iterator[Any]:
    """Go through everything that a type is made of, each once: types may contain themselves."""
    if isinstance(info, (tuple, list)):
        for each in info:
            yield from _parts(each, seen)
    elif isinstance(info, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(info) not in seen:
        seen.add(id(info))
        yield info
        for name in info.__struct_fields__:
            yield from _parts(getattr(info, name), seen)
