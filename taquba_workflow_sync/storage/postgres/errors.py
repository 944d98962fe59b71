"""What an error of the server means for whoever asked."""

from __future__ import annotations

from typing import Final

import psycopg

from taquba_workflow_sync.errors import StorageError, StoreAccessError, TaqubaError
from taquba_workflow_sync.storage.relational.data_errors import InvalidDataError


def first_line(error: BaseException) -> str:
    """Return what is said of an error: one line, which holds no password."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


#: What a program cannot do anything about but have its configuration changed: rights, no such database, no login.
_NO_RIGHT: Final = "42501"
_REFUSALS: Final = ("28", "42501", "3D000", "3F000", "25006")


_DOCS: Final = "docs/fleet/operating.md"
#: What to do about a pooler.
POOLED: Final = (
    "there is a pooler (such as PgBouncer) in between, which gives one server process to many; give the server's own"
    f" address, or the pooler's with liveness_dsn= the server's own ({_DOCS})"
)


def as_not_opened(error: psycopg.Error, store: str) -> TaqubaError:
    """Return what to tell of a store that cannot be opened."""
    text = f"cannot open the store {store}: "
    code = error.sqlstate or ""
    if "unsupported startup parameter" in str(error):  # as a pooler answers to settings
        return StoreAccessError(text + POOLED)
    text += first_line(error)
    if code == _NO_RIGHT:
        return StoreAccessError(f"{text}; which role needs which rights is told in {_DOCS}")
    return StoreAccessError(text) if code.startswith(_REFUSALS) or _is_refused(error) else StorageError(text)


def _is_refused(error: psycopg.Error) -> bool:
    """Whether a login was refused: of that libpq tells no code, only what the server said."""
    said = str(error)
    return any(each in said for each in _REFUSED)


_REFUSED: Final = (
    "authentication failed",
    "does not exist",
    "no password supplied",
    "no pg_hba.conf entry",
    "is not permitted to log in",
    "permission denied for database",
    "is not currently accepting connections",
)


def as_not_written(error: BaseException) -> TaqubaError:
    """Return what to tell of an operation that was rolled back."""
    if isinstance(error, TaqubaError):
        return error
    is_about_data = isinstance(error, (psycopg.IntegrityError, psycopg.DataError)) or not isinstance(
        error, (psycopg.Error, MemoryError)
    )
    kind = InvalidDataError if is_about_data else StorageError
    return kind(f"nothing was written: {first_line(error) if isinstance(error, psycopg.Error) else repr(error)}")
