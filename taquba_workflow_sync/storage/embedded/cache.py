"""The one module that touches what is not public in diskcache; pinned by ``test_diskcache_contract.py``."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import diskcache
from diskcache.core import DBNAME, MODE_PICKLE

if TYPE_CHECKING:
    # diskcache is untyped, and a base that a type checker knows nothing of makes the class unknown to it. This is what
    # is used of the two.
    class _Disk:
        def __init__(self, directory: str, **kwargs: Any) -> None: ...
        def put(self, key: Any) -> Any: ...
        def get(self, key: Any, raw: Any) -> Any: ...
        def store(self, value: Any, read: bool, key: Any = ...) -> Any: ...
        def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> Any: ...

    class _Cache:
        _directory: str
        _timeout: float
        _local: threading.local
        _txn_id: int | None
        _disk: _Disk

        def __init__(self, directory: str, timeout: float, disk: type[_Disk], **settings: Any) -> None: ...
        def close(self) -> None: ...
else:
    from diskcache import Cache as _Cache
    from diskcache import Disk as _Disk

DATABASE_NAME: Final[str] = DBNAME
_PATIENCE: Final = 30.0

# Written into the file's Settings table, so that any program that opens it inherits them. Without them diskcache
# evicts rows, checkpoints the WAL unguarded, maps the file into memory, and moves values to files it never syncs.
SETTINGS: Final[dict[str, int | str]] = {
    "eviction_policy": "none",
    "cull_limit": 0,
    "statistics": 0,
    "tag_index": 0,
    "size_limit": 2**62,
    "disk_min_file_size": 2**31 - 1,
    "disk_pickle_protocol": 0,
    "sqlite_auto_vacuum": 0,
    "sqlite_cache_size": 8192,
    "sqlite_checkpoint_fullfsync": 1,
    "sqlite_fullfsync": 1,
    "sqlite_journal_mode": "wal",
    "sqlite_journal_size_limit": 1 << 20,
    "sqlite_mmap_size": 0,
    "sqlite_synchronous": 2,
    "sqlite_wal_autocheckpoint": 0,
}


class PlainDisk(_Disk):
    """Keeps bytes, text and numbers inside the database; refuses pickle both ways, and side files.

    diskcache unpickles what it reads (CVE-2025-69872): whoever can write to the directory would run code in every
    process that reads. Refusing in ``put``, ``get``, ``store`` and ``fetch`` closes that.
    """

    def put(self, key: Any) -> Any:
        """Convert a key for the database."""
        if type(key) not in (bytes, str, int, float) or _is_too_big(key):
            _refuse_pickle(f"a key of type {type(key).__name__}")
        return super().put(key)

    def get(self, key: Any, raw: Any) -> Any:
        """Convert a key from the database."""
        if not raw:
            _refuse_pickle("a stored key")
        return super().get(key, raw)

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        """Convert a value for the database."""
        if read or type(value) not in (bytes, str, int, float) or _is_too_big(value):
            _refuse_pickle(f"a value of type {type(value).__name__}")
        return super().store(value, read, key=key)

    def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> Any:
        """Convert a value from the database."""
        if mode == MODE_PICKLE or filename is not None:
            _refuse_pickle("a stored value")
        return super().fetch(mode, filename, value, read)


def _is_too_big(value: object) -> bool:
    # diskcache pickles integers that SQLite cannot hold.
    return type(value) is int and not -(2**63) <= value < 2**63


def _refuse_pickle(what: str) -> NoReturn:
    raise TypeError(f"{what} would need pickle or a side file, which this store refuses; use bytes, str, int or float")


class StoreCache(_Cache):
    """diskcache's tables in the store's database, without diskcache's connection per thread."""

    @classmethod
    def create(cls, directory: Path) -> None:
        """Make diskcache's own tables and write :data:`SETTINGS`; the caller holds the opening lock.

        Safe to repeat over a creation that was cut short, and over a file whose settings another program changed.
        """
        cache: StoreCache = cls.__new__(cls)
        try:
            cache.__init__(str(directory), timeout=60, disk=PlainDisk, **SETTINGS)  # type: ignore[misc]  # as a constructor would
        finally:
            # Also when the constructor failed in the middle (a full disk): its connection would stay open.
            if hasattr(cache, "_local"):
                cache.close()

    @classmethod
    def attach(cls, directory: Path) -> StoreCache:
        """Return the cache of a verified store without running diskcache's constructor, which always writes."""
        cache: StoreCache = cls.__new__(cls)
        cache._directory = str(directory)
        cache._timeout = 0
        cache._local = threading.local()
        cache._txn_id = None
        cache._disk = PlainDisk(str(directory), min_file_size=2**31 - 1, pickle_protocol=0)
        for key, value in SETTINGS.items():
            if not key.startswith("disk_"):
                setattr(cache, key, value)
        return cache


def connect(directory: Path, *, synchronous: int) -> sqlite3.Connection:
    """Open one connection to an existing database and verify every setting on it.

    It waits up to half a minute for locks, as reads and an opening need (a last close and a recovery hold the file for
    a moment); :func:`stop_waiting` is for the connection that writes.

    ``mode=rw``: a database that was deleted is an error, never made anew, empty, behind the owner's back.
    """
    database = directory / DATABASE_NAME
    uri = f"{database.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(
        uri, uri=True, timeout=_PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        for pragma, value in (
            ("synchronous", synchronous),
            ("wal_autocheckpoint", SETTINGS["sqlite_wal_autocheckpoint"]),
            ("mmap_size", SETTINGS["sqlite_mmap_size"]),
            ("fullfsync", SETTINGS["sqlite_fullfsync"]),
            ("checkpoint_fullfsync", SETTINGS["sqlite_checkpoint_fullfsync"]),
            ("journal_size_limit", SETTINGS["sqlite_journal_size_limit"]),
            ("cache_size", SETTINGS["sqlite_cache_size"]),
        ):
            _force(connection, pragma, value)
        # Read first: issued again on a live database it is suspect (see docs/operations.md).
        if _read(connection, "journal_mode") != "wal":
            raise sqlite3.OperationalError("the database is not in WAL mode; another program changed it")
    except BaseException:
        connection.close()
        raise
    return connection


def stop_waiting(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Have the connection fail at once when the file is locked: SQLite's own waiting starves whole processes."""
    connection.execute("PRAGMA busy_timeout = 0")
    return connection


def _force(connection: sqlite3.Connection, pragma: str, value: int | str) -> None:
    if _read(connection, pragma) != value:
        connection.execute(f"PRAGMA {pragma} = {value}").fetchall()
        held = _read(connection, pragma)
        # mmap_size answers nothing where SQLite was built without it, which is what is wanted.
        if held is not None and held != value:
            raise sqlite3.OperationalError(f"PRAGMA {pragma} is {held!r} and cannot be set to {value!r}")


def _read(connection: sqlite3.Connection, pragma: str) -> int | str | None:
    row = connection.execute(f"PRAGMA {pragma}").fetchone()
    return None if row is None else row[0]


def settings_hold(connection: sqlite3.Connection) -> bool:
    """Whether the Settings table says what :data:`SETTINGS` says; False too where there is no such table."""
    return not stray_settings(connection)


def stray_settings(connection: sqlite3.Connection) -> list[tuple[str, object, object]]:
    """Return the settings that the file holds otherwise: the key, its value there (None: none), and the right one."""
    try:
        stored = dict(connection.execute("SELECT key, value FROM Settings").fetchall())
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        stored = {}
    return [(key, stored.get(key), value) for key, value in SETTINGS.items() if stored.get(key) != value]


def create_private(directory: Path) -> None:
    """Create the database file, readable by its owner alone, before SQLite would create it for everyone."""
    try:
        os.close(os.open(directory / DATABASE_NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        if (directory / DATABASE_NAME).is_symlink():
            raise OSError(f"{directory / DATABASE_NAME} is a symbolic link; a store's database is a file") from None
