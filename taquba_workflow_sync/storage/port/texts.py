"""Texts as every engine can store them: UTF-8 without U+0000, which servers refuse in text."""

from __future__ import annotations

from typing import Final

_ERROR_LIMIT: Final = 16_384
# A code point that Unicode keeps out of texts for ever, so that hardly any text changes on its way.
_ESCAPE: Final = "\ufdd0"
_ESCAPED: Final = {"\0": f"{_ESCAPE}0", _ESCAPE: f"{_ESCAPE}1"}


def storable_error(error: str | None) -> str | None:
    """Return an error as a row carries it: U+0000 escaped, lone surrogates spelt out; cut, with a note, when too long.

    :func:`readable_error` takes the escapes back.
    """
    if error is None:
        return None
    if len(error) > _ERROR_LIMIT:
        error = f"{error[:_ERROR_LIMIT]}... [{len(error) - _ERROR_LIMIT} more characters were cut]"
    if not error.isascii():
        error = error.encode("utf-8", "backslashreplace").decode().replace(_ESCAPE, _ESCAPED[_ESCAPE])
    return error.replace("\0", _ESCAPED["\0"]) if "\0" in error else error


def readable_error(stored: str | None) -> str | None:
    """Return the text that :func:`storable_error` made ``stored`` of."""
    if stored is None or _ESCAPE not in stored:
        return stored
    return stored.replace(_ESCAPED["\0"], "\0").replace(_ESCAPED[_ESCAPE], _ESCAPE)
