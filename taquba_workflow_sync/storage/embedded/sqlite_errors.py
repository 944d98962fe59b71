"""What an error of SQLite means for whoever asked: try again, open anew, repair, or give up."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from taquba_workflow_sync.errors import StorageError, TaqubaError

#: What an operation raises where a stored row is not what it should be; SQLite's own errors tell it apart better.
_OF_DATA: Final = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError, RecursionError)

#: What helps a damaged database.
ADVICE: Final = "Queue.check() tells how far; restore a backup (docs/operations.md)"


class Culprit(NamedTuple):
    """A row that cannot be worked on; ``is_overflow``: only what it has in rows of its own cannot be read."""

    seq: int
    is_overflow: bool = False


@contextmanager
def blaming(culprit: Culprit) -> Iterator[None]:
    """Note on an error that tells of a damaged page which row was worked on."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if is_corrupt(error) and not hasattr(error, "culprit"):
            error.culprit = culprit  # type: ignore[attr-defined]  # carried by the exception to where it is told
        raise


class InvalidDataError(StorageError):
    """What was asked for does not fit what is stored: a damaged row, a wrong counter. A retry alone would not help."""


class DamagedDatabaseError(StorageError):
    """Pages of the database are damaged: what lies on them can be neither read nor written, now or later.

    ``culprit``: the row that was being worked on, or whose large part was being read, if it was one alone.
    """

    is_permanent = True
    culprit: Culprit | None = None


class LostDatabaseError(StorageError):
    """The database was deleted, moved or replaced under this handle: what it wrote nobody would ever see."""

    is_permanent = True


def _primary_code(error: BaseException) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def is_busy(error: BaseException) -> bool:
    """Whether another connection holds a lock that this one needs."""
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_read_only(error: BaseException) -> bool:
    """Whether the connection cannot write: SQLite opens a file that cannot be opened for writing (a disk that is
    read-only for a while, an I/O error) for reading, silently, and would never try again."""
    return _primary_code(error) == sqlite3.SQLITE_READONLY


def is_corrupt(error: BaseException) -> bool:
    """Whether the file is damaged, or no database at all."""
    return _primary_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_undecodable(error: BaseException) -> bool:
    """Whether a read failed only because some text is no UTF-8."""
    return isinstance(error, UnicodeDecodeError) or (
        isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error)
    )


def is_about_data(error: BaseException | None) -> bool:
    """Whether what failed may have met damaged data. What cannot be bound at all is the caller's own."""
    if isinstance(error, sqlite3.Error):
        return isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError)) or is_undecodable(error)
    if isinstance(error, TaqubaError):
        return isinstance(error, InvalidDataError)
    return isinstance(error, _OF_DATA) and not isinstance(error, UnicodeEncodeError)


def lacks_a_name(error: BaseException) -> bool:
    """Whether a statement of ours names what the schema does not: its text, or a page of it, is damaged."""
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith("no such ")


def as_not_written(error: BaseException) -> TaqubaError:
    """Return what to tell of an operation that was rolled back."""
    if isinstance(error, TaqubaError):
        return error
    if is_corrupt(error):
        damaged = DamagedDatabaseError(f"nothing was written, the database is damaged: {error}; {ADVICE}")
        damaged.culprit = getattr(error, "culprit", None)
        return damaged
    kind = InvalidDataError if is_about_data(error) else StorageError
    return kind(f"nothing was written: {error if isinstance(error, sqlite3.Error) else repr(error)}")


def as_not_read(error: sqlite3.Error, store: object) -> StorageError:
    """Return what to tell of a read of ``store`` that failed."""
    if is_corrupt(error):
        return DamagedDatabaseError(f"cannot read the store {store}, its database is damaged: {error}; {ADVICE}")
    return StorageError(f"cannot read the store {store}: {error}")
