"""Texts as every engine can store them: UTF-8 without U+0000, which a server refuses in text."""

from __future__ import annotations

_ERROR_LIMIT = 16_384


def storable_error(error: str | None) -> str | None:
    """Return an error as a row can carry it: lone surrogates and U+0000 escaped; cut, with a note, when too long."""
    if error is None:
        return None
    if not error.isascii():
        error = error.encode("utf-8", "backslashreplace").decode()
    error = error.replace("\0", "\\x00")
    if len(error) <= _ERROR_LIMIT:
        return error
    return f"{error[:_ERROR_LIMIT]}... [{len(error) - _ERROR_LIMIT} more characters were cut]"
