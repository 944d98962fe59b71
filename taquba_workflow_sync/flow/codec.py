"""Typed values as canonical JSON, and back: strict, and checked when written, which no library does by itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import msgspec

from taquba_workflow_sync.flow.errors import FlowDefinitionError
from taquba_workflow_sync.flow.models import as_builtins, check_storable, of_builtins
from taquba_workflow_sync.flow.paths import UNWRITABLE, Difference, NotFinite, difference, not_finite, unencodable

_T = TypeVar("_T")

#: Fields and keys in order, so that equal states have equal bytes, whichever version of a program has written them.
_ENCODER: Final = msgspec.json.Encoder(enc_hook=as_builtins, order="sorted")
_write: Final = _ENCODER.encode
_PLAIN: Final = msgspec.json.Decoder()
_WHERE: Final = re.compile(r"(?s)(.*?)(?: - at `\$?(.*)`)?\Z")
_INNER: Final = re.compile(r"(?s)\x01(.*?)\x01(.*)\Z")


class Codec(Generic[_T]):
    """Writes and reads values of one type."""

    __slots__ = ("_decode", "type")

    def __init__(self, type_: Any) -> None:
        """Make the codec of a type.

        Raises:
            NameError: an annotation of a class cannot be resolved (yet).
            FlowDefinitionError: JSON cannot hold such values, or not tell them apart.
        """
        self.type: Any = type_
        try:
            self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(type_, dec_hook=of_builtins).decode
            check_storable(type_)
        except (TypeError, ValueError, AttributeError) as error:
            raise FlowDefinitionError(_what_of(error)) from error

    def encode(self, value: object, root: str) -> bytes:
        """Return the one text of a value; what is read from it has the same one.

        Raises:
            TypeError: it does not fit, or would come back as another; names the path from ``root`` on.
        """
        try:
            data = _write(value)
            if _write(self._decode(data)) == data:
                if b"null" in data:
                    self._refuse_lost_numbers(value, root)
                return data
        except TypeError as error:
            if isinstance(error, NotFinite):
                raise
            if not _is_of_keys(error):
                raise TypeError(unencodable(value, root, _encode, error)) from None
            return self._encode_with_keys(value, root)
        except msgspec.ValidationError as error:
            raise TypeError(_complaint(str(error), root)) from None
        except UNWRITABLE as error:
            raise TypeError(unencodable(value, root, _encode, error)) from None
        found = difference(_PLAIN.decode(data), _PLAIN.decode(_encode(self._decode(data))), root)
        raise TypeError(_changed(found, root))

    def _encode_with_keys(self, value: object, root: str) -> bytes:
        """Do the same for what has dicts whose keys are no texts."""
        try:
            data = _encode(value)
            back = _encode(self._decode(data))
        except msgspec.ValidationError as error:
            raise TypeError(_complaint(str(error), root)) from None
        except UNWRITABLE as error:
            raise TypeError(unencodable(value, root, _encode, error)) from None
        if back != data:
            raise TypeError(_changed(difference(_PLAIN.decode(data), _PLAIN.decode(back), root), root))
        self._refuse_lost_numbers(value, root)
        return data

    def _refuse_lost_numbers(self, value: object, root: str) -> None:
        found = not_finite(value, root)
        if found is not None:
            raise NotFinite(f"{found.path}: {found.given} would come back as {found.back}; JSON has no such number")

    def decode(self, data: bytes, root: str) -> _T:
        """Return the value of a text.

        Raises:
            TypeError: it does not fit, or is no JSON; names the path from ``root`` on.
        """
        try:
            value: _T = self._decode(data)
        except msgspec.ValidationError as error:
            raise TypeError(_complaint(str(error), root)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TypeError(f"{root}: expected JSON: {error}") from None
        return value


def _encode(value: object) -> bytes:
    try:
        return _write(value)
    except TypeError as error:
        if not _is_of_keys(error):
            raise
        # Keys that are numbers, dates, ...: written as texts first, since only texts can be put in order.
        return _ENCODER.encode(msgspec.to_builtins(value, str_keys=True, enc_hook=as_builtins))


def read_plain(data: Any) -> Any:
    """Return what a text of JSON says, in dicts, lists, texts and numbers.

    Raises:
        ValueError: it is none.
    """
    return _PLAIN.decode(data)


def _is_of_keys(error: TypeError) -> bool:
    """Whether a value could not be written since it has keys that are no texts, which cannot be put in order."""
    return "str keys" in str(error)


def builtins_of(value: object) -> Any:
    """Return a value as JSON has it: dicts, lists, texts and numbers."""
    return _PLAIN.decode(_encode(value))


def _complaint(text: str, root: str) -> str:
    """Return what msgspec complains of, in the words of this library: ``order.email: expected str, got int``."""
    found = _WHERE.match(text)
    assert found is not None
    what, path = found.group(1), (found.group(2) or "").replace("[...]", "[]")
    inner = _INNER.match(what)
    if inner is not None:
        path, what = path + inner.group(1), inner.group(2)
    missing = re.match(r"Object missing required field `(.*)`\Z", what)
    if missing is not None:
        path, what = f"{path}.{missing.group(1)}", "missing"
    what = what.replace("`", "")
    return f"{root}{path}: {what[:1].lower()}{what[1:]}"


def _changed(found: Difference | None, root: str) -> str:
    if found is None:
        return f"{root}: would not come back as it is"
    return f"{found.path}: {found.given} would come back as {found.back}; give what its type says"


def _what_of(error: Exception) -> str:
    text = str(error).replace("`", "")
    if "more than one" in text and ("dataclass" in text or "Struct" in text or "dict-like" in text):
        return f"{text}; JSON cannot tell them apart: make them msgspec.Struct classes with tag=True"
    return text
