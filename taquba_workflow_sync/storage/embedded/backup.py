"""A copy of a store, of one moment, made while others work in it."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.failpoints import Failpoint, between
from taquba_workflow_sync.storage.embedded.cache import DATABASE_NAME, connect, create_private, settings_hold
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.filesystem import (
    check_filesystem,
    check_private,
    make_directory,
    sync_directory,
    sync_path,
)
from taquba_workflow_sync.storage.embedded.owners import living_owners
from taquba_workflow_sync.storage.port.worker import pid_of
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.data_errors import is_corrupt
from taquba_workflow_sync.storage.relational.transitions.restore import MARK

# Pages copied before others of this process get the interpreter's lock again.
_PIECE: Final = 1000
_FULL: Final = 2
_UNFINISHED: Final = "unfinished-backup"


def backup(connections: Connections, target: Path, failpoint: Failpoint | None = None) -> None:
    """Write the store as it is at one moment to ``target``, a directory that is not there yet, or empty.

    Durable on return. Writers go on; until it is done a fork waits, and the log grows by what they write. The copy is a
    store: the first open of it takes back the claims that it holds, since whoever works on them does so for the store
    that it is a copy of. What fails, or is killed, leaves no store: the database gets its place last.

    Raises:
        StorageError: something is at ``target``, it cannot be written, or pages of the store are damaged.
        UnsupportedFilesystemError: it lies where SQLite's locks are not safe; copy a closed backup there instead.
    """
    try:
        is_new = not target.exists()
        make_directory(target)
        check_private(target)
        check_filesystem(target)
        if any(target.iterdir()):
            left = ": it holds a backup that was killed, or is being made" if (target / _UNFINISHED).exists() else ""
            raise StorageError(f"{target} is not empty{left}; give a backup a directory of its own")
        try:
            _write(connections, target, failpoint)
        except BaseException:
            _clear(target, is_new=is_new)
            raise
    except (OSError, sqlite3.Error) as error:
        advice = "; pages of it are damaged, Queue.check() tells which" if is_corrupt(error) else ""
        raise StorageError(f"cannot back up {connections.root} to {target}: {error}{advice}") from error


def backup_file(connections: Connections, target: Path, failpoint: Failpoint | None = None) -> None:
    """Write the store as it is at one moment into one file, ``target``, which is not there yet. Durable on return.

    A kill leaves no ``target``; what it was made from is left beside it, in a directory with a name that begins with a
    dot, to be removed by hand.

    Raises:
        StorageError: something is at ``target``, it cannot be written, or pages of the store are damaged.
        UnsupportedFilesystemError: it lies where SQLite's locks are not safe.
    """
    if os.path.lexists(target):
        raise StorageError(f"{target} is there already; give a backup a name of its own")
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        backup(connections, beside, failpoint)
        # A link, unlike a rename, refuses what somebody has put there meanwhile.
        os.link(beside / "db" / DATABASE_NAME, target)
        sync_directory(target.parent)
    except OSError as error:
        raise StorageError(f"cannot write the backup {target}: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def restore(source: Path, target: Path) -> None:
    """Make a store at ``target``, a directory that is not there yet or empty, of a backup: its file or its directory.

    Durable on return. The first open takes back the claims that the copy holds; a copy that was made with SQLite's own
    tools is treated alike.

    Raises:
        StorageError: the backup cannot be read, is none, or is of a store that is open; or something is at ``target``.
        UnsupportedFilesystemError: it lies where SQLite's locks are not safe.
    """
    try:
        database = source / "db" / DATABASE_NAME if source.is_dir() else source
        _refuse_open_store(database)
        log = database.with_name(f"{database.name}-wal")
        if log.exists() and log.stat().st_size:
            raise StorageError(f"{source} is no backup but a store in use, or one that was killed: it has a log, {log}")
        is_new = not target.exists()
        make_directory(target)
        check_private(target)
        check_filesystem(target)
        if any(target.iterdir()):
            raise StorageError(f"{target} is not empty; restore a backup into a directory of its own")
        try:
            _write_from(database, target)
        except BaseException:
            _clear(target, is_new=is_new)
            raise
    except (OSError, sqlite3.Error) as error:
        why = getattr(error, "strerror", None) or error  # which names no path: one of them may be as long as memory
        raise StorageError(f"cannot restore {source!s:.300} to {target!s:.300}: {why}") from error


def _refuse_open_store(database: Path) -> None:
    """Refuse the database of a store that somebody has open: to read its file besides SQLite would lose its locks.

    Raises:
        StorageError: somebody has.
    """
    store = database.parent.parent
    if database.parent.name == "db" and (store / "owners").is_dir():
        for owner in living_owners(store / "owners"):
            raise StorageError(f"{store} is no backup but a store in use, open in process {pid_of(owner)}")


def _write_from(database: Path, target: Path) -> None:
    unfinished = target / _UNFINISHED
    make_directory(target / "owners")
    make_directory(unfinished)
    create_private(unfinished)
    shutil.copyfile(database, unfinished / DATABASE_NAME)
    with closing(connect(unfinished, synchronous=_FULL)) as copy:
        if not settings_hold(copy) or not copy.execute(sql.TABLES).fetchall():
            raise StorageError(f"{database} is no backup of a store; nothing was restored")
        copy.execute(sql.WRITE_META, (MARK, 1))
    sync_directory(unfinished)
    unfinished.rename(target / "db")
    sync_path(target)


def _write(connections: Connections, target: Path, failpoint: Failpoint | None) -> None:
    unfinished = target / _UNFINISHED
    make_directory(target / "owners")
    make_directory(unfinished)
    create_private(unfinished)
    with closing(sqlite3.connect(unfinished / DATABASE_NAME, isolation_level=None)) as copy:
        with connections.reading() as connection:
            _copy(connection, copy, failpoint)
    # Through WAL, as every connection of ours: closing it as the last one empties and removes the log.
    with closing(connect(unfinished, synchronous=_FULL)) as copy:
        if not settings_hold(copy):
            raise StorageError(f"the settings of {connections.root} were changed by another program; open it again")
        copy.execute(sql.WRITE_META, (MARK, 1))
    sync_directory(unfinished)
    try:
        between(failpoint, "backup-place", unfinished.rename)(target / "db")
        between(failpoint, "backup-sync", sync_path)(target)
    except BaseException:
        if not unfinished.exists():
            (target / "db").rename(unfinished)
        raise


def _copy(connection: sqlite3.Connection, copy: sqlite3.Connection, failpoint: Failpoint | None) -> None:
    # One snapshot for all pieces: a copy that began anew after each commit of the others would never end.
    connection.execute("BEGIN")
    try:
        connection.execute(sql.TABLES).fetchall()

        def report(_status: int, remaining: int, _total: int) -> None:
            if failpoint is not None:
                failpoint(f"backup-piece:{remaining}")

        connection.backup(copy, pages=_PIECE, progress=report)
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def _clear(target: Path, *, is_new: bool) -> None:
    """Take away what a backup that failed has left."""
    shutil.rmtree(target / _UNFINISHED, ignore_errors=True)
    with suppress(OSError):  # not empty: somebody made a store of it meanwhile
        (target / "owners").rmdir()
        if is_new:
            target.rmdir()
