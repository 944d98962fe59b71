"""Opening a store: made if it is not there, verified if it is, refused if it is newer or unsafe."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from taquba_workflow_sync.errors import SchemaVersionError, StorageError
from taquba_workflow_sync.failpoints import Failpoint, between
from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.cache import DATABASE_NAME, StoreCache, create_private, settings_hold
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.filesystem import (
    check_filesystem,
    check_private,
    make_directory,
    sync_directory,
    sync_path,
)
from taquba_workflow_sync.storage.embedded.locks import opening

_log = logging.getLogger(__name__)


def prepare(root: Path, connections: Connections, failpoint: Failpoint | None = None) -> None:
    """Leave a complete, verified store at ``root``; a store that verifies is not written to.

    Raises:
        StorageError: the directory or the database cannot be used.
        UnsupportedFilesystemError: SQLite's locks are not safe there.
        SchemaVersionError: a newer version of this library wrote the store.
    """
    try:
        _refuse_links(root)
        make_directory(root)
        check_private(root)
        check_filesystem(root)
        for name in ("db", "owners"):
            make_directory(root / name)
            check_private(root / name)
        if not _verifies(root / "db", connections):
            with opening(root):
                _complete(root / "db", connections, failpoint)
    except (OSError, sqlite3.Error) as error:
        advice = "; its database is damaged: restore a backup (docs/operations.md)" if _is_corrupt(error) else ""
        raise StorageError(f"cannot open the store {root}: {error}{advice}") from error


def _refuse_links(root: Path) -> None:
    """Refuse parts of a store that lie elsewhere: the owner locks beside them would not be those of who uses them."""
    for path in (root / "db", root / "owners", root / "open.lock", root / "db" / DATABASE_NAME):
        if path.is_symlink():
            raise StorageError(
                f"{path} is a symbolic link; the parts of a store are its own: put a link in place of the whole store"
            )


def _is_corrupt(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _verifies(directory: Path, connections: Connections) -> bool:
    if not (directory / DATABASE_NAME).exists():
        return False
    try:
        connection = connections.open()
    except sqlite3.OperationalError:
        return False  # being created by another process, or cut short: the opening lock will tell
    try:
        return _version(connection) == sql.SCHEMA_VERSION and settings_hold(connection)
    finally:
        connection.close()


def _version(connection: sqlite3.Connection) -> int:
    try:
        row = connection.execute(sql.READ_META, ("schema",)).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return 0
        raise
    version: int = row[0] if row else 0
    if type(version) is not int:
        raise StorageError(f"the store's schema version is {version!r:.80}: its database is damaged; restore a backup")
    if version > sql.SCHEMA_VERSION:
        raise SchemaVersionError(
            f"the store has schema version {version}, this library knows up to {sql.SCHEMA_VERSION};"
            " upgrade taquba-workflow-sync"
        )
    return version


def _complete(directory: Path, connections: Connections, failpoint: Failpoint | None) -> None:
    """Create, or complete a creation that was cut short; under the opening lock. Every part of it can be repeated."""
    if _verifies(directory, connections):
        return
    between(failpoint, "create-file", create_private)(directory)
    # Whoever made the directories may have been killed before they were durable, or may not have come to it yet.
    sync_path(directory)
    between(failpoint, "write-settings", StoreCache.create)(directory)
    connection = connections.open()
    try:
        _version(connection)
        if not settings_hold(connection):
            raise StorageError(f"the settings of {directory / DATABASE_NAME} cannot be put right")
        connection.execute(sql.BEGIN)
        for statement in sql.SCHEMA:
            connection.execute(statement)
        between(failpoint, "commit-schema", connection.execute)(sql.COMMIT)
    finally:
        connection.close()
    sync_directory(directory)
    _log.info("store ready at %s", directory.parent)
