"""The embedded engine behind the port: a directory, one SQLite file, and the locks of those who have it open."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from taquba_workflow_sync.clock import SystemClock, clock_reader, on_advance
from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.embedded.access import Access
from taquba_workflow_sync.storage.embedded.backup import backup, backup_file, restore
from taquba_workflow_sync.storage.embedded.boot_clock import BootClock
from taquba_workflow_sync.storage.embedded.cache import DATABASE_NAME
from taquba_workflow_sync.storage.embedded.changes import ChangeFeed
from taquba_workflow_sync.storage.embedded.check import check
from taquba_workflow_sync.storage.embedded.checkpoint import CHECKPOINT_BYTES, Checkpointer
from taquba_workflow_sync.storage.embedded.commit import Transactor
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.examination import examine
from taquba_workflow_sync.storage.embedded.lifecycle import Lifecycle
from taquba_workflow_sync.storage.embedded.moved import refuse_if_closed
from taquba_workflow_sync.storage.embedded.opening import is_store as is_store
from taquba_workflow_sync.storage.embedded.opening import prepare
from taquba_workflow_sync.storage.embedded.owners import is_alive
from taquba_workflow_sync.storage.port.finding import Finding
from taquba_workflow_sync.storage.port.store import Durability, OpenOptions, Store
from taquba_workflow_sync.storage.relational.claims_seen import ClaimsSeen
from taquba_workflow_sync.storage.relational.group_commit import GroupCommit
from taquba_workflow_sync.storage.relational.methods import Methods
from taquba_workflow_sync.storage.relational.settling import settle_plain_in_bulk
from taquba_workflow_sync.storage.relational.transitions import memo
from taquba_workflow_sync.storage.relational.unreadable import Unreadable

_PLAIN: Final = OpenOptions()


def open_store(address: str, options: OpenOptions) -> Store:
    """Open the store in the directory ``address``; it is made if it is not there.

    Raises:
        StorageError: the directory or the database cannot be used.
        StoreInUseError: this open, or an open handle, insists on being the only one.
        SchemaVersionError: a newer version of this library wrote the store.
        UnsupportedFilesystemError: SQLite's locks are not safe there.
    """
    return EmbeddedStore(_directory(address), options)


def restore_store(source: str, address: str) -> None:
    """Make a store at ``address`` of a backup, a file or a directory."""
    restore(_directory(source), _directory(address))


def temporary_address(address: str) -> str:
    """Return the path of a new store in a private directory of its own, inside the directory ``address``, if it is one.

    Raises:
        StorageError: it cannot be made there.
    """
    try:
        return os.path.join(tempfile.mkdtemp(prefix="taquba-", dir=address or None), "store")
    except OSError as error:
        raise StorageError(
            f"cannot make a temporary store in {address or 'the directory for such'}: {error}"
        ) from error


def drop_store(address: str) -> None:
    """Remove a store of :func:`temporary_address`, with its directory; one that is gone is none to remove."""
    shutil.rmtree(os.path.dirname(_directory(address)), ignore_errors=True)


def shown(address: str) -> str:
    """Return an address as it is told: absolute."""
    return str(_directory(address))


def _directory(address: str) -> Path:
    try:
        return Path(os.path.abspath(address))
    except FileNotFoundError:
        text = f"{address!r} is relative, and the working directory it is relative to was deleted"
        raise StorageError(f"{text}; give an absolute path") from None


class EmbeddedStore(Methods):
    """One handle on a store directory; implements :class:`~taquba_workflow_sync.storage.port.store.Store`."""

    def __init__(
        self,
        root: Path,
        options: OpenOptions = _PLAIN,
        *,
        boot_clock: BootClock | None = None,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
    ) -> None:
        clock = SystemClock() if options.clock is None else options.clock
        self._failpoint = options.failpoint
        self._boot_clock = BootClock() if boot_clock is None else boot_clock
        self._now = clock_reader(clock)
        self._boot = self._boot_clock.boot if isinstance(clock, SystemClock) else 0
        self._connections = Connections(
            root / "db", is_durable=options.durability is Durability.FULL, wal_bytes=checkpoint_bytes
        )
        self._unreadable = Unreadable()
        self._fillings = memo.Fillings()
        transactor = Transactor(
            self._connections,
            Checkpointer(root / "db", self._connections, threshold=checkpoint_bytes, failpoint=options.failpoint),
            owner=lambda: self._lifecycle.owner.id,
            read_clock=self._now,
            clock_is_ours=isinstance(clock, SystemClock),
            boot_clock=self._boot_clock,
            bulk=settle_plain_in_bulk,
            on_commit=lambda queues, ended: self._changes.committed(queues, ended),
            unreadable=self._unreadable,
            failpoint=options.failpoint,
        )
        self._commits = GroupCommit(transactor)
        self._lifecycle = Lifecycle(
            root,
            self._connections,
            options,
            clerk=lambda: self._commits.clerk,
            forget_parent=self._forget_parent,
        )
        self._access = Access(
            self._lifecycle, self._connections, self._commits, self._unreadable, self._boot_clock.boot
        )
        self._changes: ChangeFeed = ChangeFeed(self._lifecycle, self._connections, self._commits)
        self._claims = ClaimsSeen(
            self._lifecycle, partial(is_alive, root / "owners"), self._access, self._commits, self._now
        )
        deadline = time.monotonic() + (options.wait_s or 0.0)  # for both together
        prepare(root, self._connections, options, deadline)
        self._lifecycle.begin(deadline)
        self._unsubscribe_clock = on_advance(clock, self._changes.clock_was_moved)

    def _forget_parent(self) -> None:
        self._commits.reset_after_fork()
        self._changes.reset_after_fork()

    def log_bytes(self) -> int:
        """Return the size of the file that SQLite calls the WAL."""
        self._lifecycle.use()
        try:
            return os.stat(self._lifecycle.root / "db" / f"{DATABASE_NAME}-wal").st_size
        except FileNotFoundError:
            return 0

    def _use_whole(self) -> None:
        """Check that the handle is open, and no move has put the tables away that SQLite is asked about as a whole."""
        self._lifecycle.use()
        with suppress(sqlite3.Error), self._connections.reading() as connection:
            refuse_if_closed(connection, self._lifecycle.root)  # damage is for the caller to find

    def backup(self, address: str) -> None:
        """Write a copy of one moment."""
        self._use_whole()
        backup(self._connections, _directory(address), self._failpoint)

    def backup_file(self, path: str) -> None:
        """Write a copy of one moment into a file."""
        self._use_whole()
        backup_file(self._connections, _directory(path), self._failpoint)

    def examine(self) -> list[Finding]:
        """Return how the store and what it stands on are."""
        self._use_whole()
        return examine(self._lifecycle.root, self._connections, self._lifecycle.owner.id, self._now())

    def check(self) -> list[str]:
        """Return what is wrong with the store."""
        self._use_whole()
        return check(self._connections)

    def unreadable(self) -> list[str]:
        """Return what was passed over."""
        return self._unreadable.sentences()

    def beat(self, patience: float) -> bool | None:
        """Return None: there is no server that this process could be cut off from."""
        del patience
        return None

    def close(self) -> None:
        """Let go of everything."""
        self._unsubscribe_clock()
        self._lifecycle.close()
