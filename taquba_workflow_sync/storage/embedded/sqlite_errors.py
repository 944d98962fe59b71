"""What an error of SQLite means for whoever asked: try again, open anew, repair, or give up."""

from __future__ import annotations

import sqlite3
from typing import Final

from taquba_workflow_sync.errors import StorageError, TaqubaError
from taquba_workflow_sync.storage.relational.data_errors import (
    DamagedDatabaseError,
    InvalidDataError,
    is_corrupt,
    is_of_data,
    primary_code,
)

#: What helps a damaged database.
ADVICE: Final = "Queue.check() tells how far; restore a backup (docs/operations.md)"


class LostDatabaseError(StorageError):
    """The database was deleted, moved or replaced under this handle: what it wrote nobody would ever see."""

    is_permanent = True


def is_busy(error: BaseException) -> bool:
    """Whether another connection holds a lock that this one needs."""
    return primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_read_only(error: BaseException) -> bool:
    """Whether the connection cannot write: SQLite opens a file that cannot be opened for writing (a disk that is
    read-only for a while, an I/O error) for reading, silently, and would never try again."""
    return primary_code(error) == sqlite3.SQLITE_READONLY


def is_undecodable(error: BaseException) -> bool:
    """Whether a read failed only because some text is no UTF-8."""
    return isinstance(error, UnicodeDecodeError) or (
        isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error)
    )


def is_about_data(error: BaseException | None) -> bool:
    """Whether what failed may have met damaged data. What cannot be bound at all is the caller's own."""
    if isinstance(error, sqlite3.Error):
        return isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError)) or is_undecodable(error)
    return error is not None and is_of_data(error)


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
