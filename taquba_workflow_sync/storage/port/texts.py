"""Texts as every engine can store them."""

from __future__ import annotations

_ERROR_LIMIT = 16_384


def clip_error(error: str | None) -> str | None:
    """Return ``error`` as a row can carry it: lone surrogates escaped; cut, with a note, when it is too long."""
    if error is None:
        return None
    if not error.isascii():
        error = error.encode("utf-8", "backslashreplace").decode()
    if len(error) <= _ERROR_LIMIT:
        return error
    return f"{error[:_ERROR_LIMIT]}... [{len(error) - _ERROR_LIMIT} more characters were cut]"
