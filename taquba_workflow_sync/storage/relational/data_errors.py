"""What goes wrong with stored data, whichever engine stores it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from taquba_workflow_sync.errors import StorageError, TaqubaError

#: What an operation raises where a stored row is not what it should be; an engine's own errors tell it apart better.
_OF_DATA: Final = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError, RecursionError)
#: SQLITE_CORRUPT and SQLITE_NOTADB, as https://www.sqlite.org/rescode.html has them.
_CORRUPT: Final = (11, 26)


class Culprit(NamedTuple):
    """A row that cannot be worked on; ``is_overflow``: only what it has in rows of its own cannot be read."""

    seq: int
    is_overflow: bool = False


class InvalidDataError(StorageError):
    """What was asked for does not fit what is stored: a damaged row, a wrong counter. A retry alone would not help."""


class DamagedDatabaseError(StorageError):
    """Pages of the database are damaged: what lies on them can be neither read nor written, now or later.

    ``culprit``: the row that was being worked on, or whose large part was being read, if it was one alone.
    """

    is_permanent = True
    culprit: Culprit | None = None


def primary_code(error: BaseException) -> int:
    """Return SQLite's own number of an error; 0 of any other."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def is_corrupt(error: BaseException) -> bool:
    """Whether the file is damaged, or no database at all."""
    return primary_code(error) in _CORRUPT


@contextmanager
def blaming(culprit: Culprit) -> Iterator[None]:
    """Note on an error that tells of a damaged page which row was worked on."""
    try:
        yield
    except Exception as error:
        if is_corrupt(error) and not hasattr(error, "culprit"):
            error.culprit = culprit  # type: ignore[attr-defined]  # carried by the exception to where it is told
        raise


def is_of_data(error: BaseException) -> bool:
    """Whether an operation that failed may have met damaged data. What cannot be bound at all is the caller's own."""
    if isinstance(error, TaqubaError):
        return isinstance(error, InvalidDataError)
    return isinstance(error, _OF_DATA) and not isinstance(error, UnicodeEncodeError)


def as_refused(error: BaseException) -> TaqubaError:
    """Return what to tell of an operation that an error of Python's has ended; nothing was written."""
    if isinstance(error, TaqubaError):
        return error
    kind = InvalidDataError if is_of_data(error) else StorageError
    return kind(f"nothing was written: {error!r}")
