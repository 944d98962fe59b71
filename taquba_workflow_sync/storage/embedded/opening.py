"""Opening a store: made if it is not there, verified if it is, upgraded if it is older, refused if newer or unsafe."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from taquba_workflow_sync.clock import SystemClock, clock_reader
from taquba_workflow_sync.errors import SchemaVersionError, StorageError, StoreInUseError, TaqubaError
from taquba_workflow_sync.failpoints import Failpoint, between
from taquba_workflow_sync.storage.embedded.boot_clock import BootClock
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
from taquba_workflow_sync.storage.embedded.migrations import migrate
from taquba_workflow_sync.storage.embedded.moved import refuse_if_closed
from taquba_workflow_sync.storage.embedded.owners import living_owners
from taquba_workflow_sync.storage.embedded.repair.mending import repair
from taquba_workflow_sync.storage.embedded.sqlite_errors import is_about_data
from taquba_workflow_sync.storage.port.store import OpenOptions
from taquba_workflow_sync.storage.port.worker import pid_of
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.data_errors import DamagedDatabaseError, is_corrupt
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.restore import is_unopened_copy, take_over
from taquba_workflow_sync.storage.relational.unreadable import Unreadable
from taquba_workflow_sync.wakeup import WakeUp

_log = logging.getLogger(__name__)

# Between two looks whether the others have gone.
_LOOK_AGAIN: Final = 0.05


def is_store(address: str) -> bool:
    """Whether a store is there, or one that was cut short when it was made; makes nothing."""
    return os.path.exists(os.path.join(address, "db", DATABASE_NAME))


def prepare(root: Path, connections: Connections, options: OpenOptions, deadline: float) -> None:
    """Leave a complete, verified store at ``root``; a store that verifies is not written to.

    ``deadline``: until when others are waited for that keep it from being upgraded, by the monotonic clock.

    Raises:
        StorageError: the directory or the database cannot be used.
        StoreInUseError: it must be upgraded, and others have it open.
        UnsupportedFilesystemError: SQLite's locks are not safe there.
        SchemaVersionError: a newer version of this library wrote the store; or it is not there, or of an older one,
            and that is not to be changed.
        StoreMovedError: it was moved elsewhere.
    """
    with _told_as_of(root):
        if not options.migrates and not is_store(str(root)):
            raise SchemaVersionError(f"there is no store at {root}, and migrate=False makes none")
        _make_directories(root)
        if _verifies(root / "db", connections):
            return
        if not options.migrates:
            raise SchemaVersionError(f"{root} must be completed or upgraded first; open it once without migrate=False")
        pause = WakeUp()
        while True:
            with opening(root):
                others = _complete(root, connections, options)
            if not others:
                return
            if time.monotonic() >= deadline:
                raise StoreInUseError(
                    f"{root} must be upgraded to schema version {sql.SCHEMA_VERSION}, and is open in process"
                    f" {', '.join(others)}; end what has it open, then open it again, or give wait="
                )
            pause.wait(_LOOK_AGAIN)


@contextmanager
def _told_as_of(root: Path) -> Iterator[None]:
    """Have whatever goes wrong be told as an error of this store.

    Damaged pages can make anything of what is read: text that is no text, a number that is text, more than fits memory.
    """
    try:
        yield
    except TaqubaError:
        raise
    except (OSError, sqlite3.Error, MemoryError) as error:
        if not is_corrupt(error) and not is_about_data(error):
            raise StorageError(f"cannot open the store {root}: {error}") from error
        raise _damaged(root, error) from error
    except Exception as error:
        if not is_about_data(error):
            raise
        raise _damaged(root, error) from error


def _damaged(root: Path, error: BaseException) -> DamagedDatabaseError:
    return DamagedDatabaseError(
        f"cannot open the store {root}: {error}; its database is damaged: restore a backup (docs/operations.md)"
    )


def _make_directories(root: Path) -> None:
    _refuse_links(root)
    make_directory(root)
    check_private(root)
    check_filesystem(root)
    for name in ("db", "owners"):
        make_directory(root / name)
        check_private(root / name)


def _refuse_links(root: Path) -> None:
    """Refuse parts of a store that lie elsewhere: the owner locks beside them would not be those of who uses them."""
    for path in (root / "db", root / "owners", root / "open.lock", root / "db" / DATABASE_NAME):
        if path.is_symlink():
            raise StorageError(
                f"{path} is a symbolic link; the parts of a store are its own: put a link in place of the whole store"
            )


def _verifies(directory: Path, connections: Connections) -> bool:
    if not (directory / DATABASE_NAME).exists():
        return False
    try:
        connection = connections.open()
    except sqlite3.OperationalError:
        return False  # being created by another process, or cut short: the opening lock will tell
    with closing(connection):
        refuse_if_closed(connection, directory.parent)
        return _is_current(connection)


def _is_current(connection: sqlite3.Connection) -> bool:
    return _version(connection) == sql.SCHEMA_VERSION and settings_hold(connection) and not is_unopened_copy(connection)


def _version(connection: sqlite3.Connection) -> int:
    """Return the version of a store's tables; 0: there are none."""
    tables = connection.execute(sql.TABLES).fetchall()
    if not tables:
        return 0
    row = connection.execute(sql.READ_META, ("schema",)).fetchone()
    version = None if row is None else row[0]
    # Tables and version are made in one commit: one without the other was damaged later.
    if type(version) is not int or version < 1:
        raise DamagedDatabaseError(
            f"the store's schema version is {version!r:.80}: its database is damaged; restore a backup"
        )
    if version > sql.SCHEMA_VERSION:
        raise SchemaVersionError(
            f"the store has schema version {version}, this library knows up to {sql.SCHEMA_VERSION};"
            " upgrade taquba-workflow-sync"
        )
    return version


def _complete(root: Path, connections: Connections, options: OpenOptions) -> list[str]:
    """Create or upgrade, or complete what was cut short; under the opening lock. Every part of it can be repeated.

    Returns the processes that an upgrade has to wait for.
    """
    directory = root / "db"
    if _verifies(directory, connections):
        return []
    others = _in_the_way(root, connections)
    if others:
        return others
    failpoint = options.failpoint
    between(failpoint, "create-file", create_private)(directory)
    # Whoever made the directories may have been killed before they were durable, or may not have come to it yet.
    sync_path(directory)
    between(failpoint, "write-settings", StoreCache.create)(directory)
    with closing(connections.open()) as connection:
        version = _version(connection)
        if not settings_hold(connection):
            raise StorageError(f"the settings of {directory / DATABASE_NAME} cannot be put right")
        if version == 0:
            _create(connection, failpoint)
        else:
            migrate(connection, version, failpoint)
        if is_unopened_copy(connection):
            _take_over(connection, options)
    sync_directory(directory)
    _log.info("store ready at %s", root)
    return []


def _in_the_way(root: Path, connections: Connections) -> list[str]:
    """Return the processes that have a store open which must be upgraded; nothing was written to it."""
    try:
        connection = connections.open()
    except sqlite3.OperationalError:
        return []  # nothing is there yet, or its creation was cut short
    with closing(connection):
        is_older = 0 < _version(connection) < sql.SCHEMA_VERSION
    return [pid_of(owner) for owner in living_owners(root / "owners")] if is_older else []


def _create(connection: sqlite3.Connection, failpoint: Failpoint | None) -> None:
    connection.execute(sql.BEGIN)
    for statement in sql.SCHEMA:
        connection.execute(statement)
    between(failpoint, "commit-schema", connection.execute)(sql.COMMIT)


def _take_over(connection: sqlite3.Connection, options: OpenOptions) -> None:
    """Take back the claims of a backup, at most 500 of a queue in one commit; what is invalid is repaired first."""
    clock = options.clock if options.clock is not None else SystemClock()
    now_ms = clock_reader(clock)()
    execute = between(options.failpoint, "take-over", connection.execute)

    def transact(work: Callable[[Transaction], object]) -> object:
        execute(sql.BEGIN)
        try:
            tx = Transaction(connection, now_ms, "", BootClock(), delays_by_boot_clock=False, unreadable=Unreadable())
            answer = work(tx)
            tx.finish()
            execute(sql.COMMIT)
        except BaseException:
            if connection.in_transaction:
                connection.execute(sql.ROLLBACK)
            raise
        return answer

    try:
        while not transact(take_over):
            pass
    except (TaqubaError, sqlite3.Error, ValueError, TypeError) as error:
        _log.warning("claims of the backup cannot be taken back, the store is repaired: %s", error)
        transact(repair)
        while not transact(take_over):
            pass
