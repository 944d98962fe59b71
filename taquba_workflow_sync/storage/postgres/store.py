"""The engine for several machines behind the port: a schema of a PostgreSQL database."""

from __future__ import annotations

import secrets
import time
from contextlib import closing
from typing import Any, Final

import psycopg

from taquba_workflow_sync.clock import SystemClock, clock_reader, on_advance
from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.port.finding import Finding
from taquba_workflow_sync.storage.port.job import Inserted, NewJob
from taquba_workflow_sync.storage.port.own import Given
from taquba_workflow_sync.storage.port.signals import NewSignal, SignalOutcome
from taquba_workflow_sync.storage.port.store import Durability, OpenOptions, Store
from taquba_workflow_sync.storage.postgres import admission, schema
from taquba_workflow_sync.storage.postgres.access import Access
from taquba_workflow_sync.storage.postgres.address import Address, parsed
from taquba_workflow_sync.storage.postgres.changes import ChangeFeed
from taquba_workflow_sync.storage.postgres.check import check
from taquba_workflow_sync.storage.postgres.commit import NoBootClock, Transactor
from taquba_workflow_sync.storage.postgres.connections import Connections
from taquba_workflow_sync.storage.postgres.errors import as_not_opened
from taquba_workflow_sync.storage.postgres.examination import examine
from taquba_workflow_sync.storage.postgres.life import Life
from taquba_workflow_sync.storage.postgres.observing import holds_lock
from taquba_workflow_sync.storage.postgres.outside import Outside
from taquba_workflow_sync.storage.postgres.own import OwnSettings, PostgresOwnTransaction
from taquba_workflow_sync.storage.postgres.sessions import connect
from taquba_workflow_sync.storage.relational.claims_seen import ClaimsSeen
from taquba_workflow_sync.storage.relational.group_commit import GroupCommit
from taquba_workflow_sync.storage.relational.methods import Methods
from taquba_workflow_sync.storage.relational.settling import settle_plain_in_bulk
from taquba_workflow_sync.storage.relational.transitions import memo
from taquba_workflow_sync.storage.relational.unreadable import Unreadable

_PLAIN: Final = OpenOptions()


def open_store(address: str, options: OpenOptions) -> Store:
    """Open the store at a URL; its schema is made if it is not there.

    Raises:
        StorageError: the server cannot be reached.
        StoreAccessError: it refuses, or no store can live there: rights, a read-only replica, a pooler, an encoding.
        StoreInUseError: this open, or an open handle, insists on being the only one.
        SchemaVersionError: there is none and none is to be made; or only a newer version of this library may use it.
        ValueError: the URL is none of a store.
    """
    return PostgresStore(parsed(address, options.direct_address), options)


def is_store(address: str) -> bool:
    """Whether a store is at a URL; makes nothing.

    Raises:
        StorageError, StoreAccessError: the server cannot be reached, or refuses.
    """
    where = parsed(address)
    try:
        with closing(connect(where.dsn, where.schema, application="taquba look", is_direct=False)) as session:
            return schema.is_there(session, where)
    except psycopg.Error as error:
        raise as_not_opened(error, where.shown) from error


def restore_store(source: str, address: str) -> None:
    """Refuse: the server's own tools restore backups.

    Raises:
        StorageError: always.
    """
    raise StorageError("a store on PostgreSQL is restored with pg_restore or the server's own backups")


def drop_store(address: str) -> None:
    """Remove a schema with all that it holds.

    Raises:
        StorageError, StoreAccessError: the server cannot be reached, or refuses.
    """
    where = parsed(address)
    try:
        with closing(connect(where.dsn, where.schema, application="taquba drop", is_direct=False)) as session:
            session.run(f'DROP SCHEMA IF EXISTS "{where.schema}" CASCADE')
    except psycopg.Error as error:
        raise as_not_opened(error, where.shown) from error


def temporary_address(address: str) -> str:
    """Return the URL of a store that nobody else has, in a schema of its own, whose name begins as the URL's."""
    where = parsed(address)
    name = f"{where.schema[:25]}_temporary_{secrets.token_hex(6)}"
    return f"{where.dsn}{'&' if '?' in where.dsn else '?'}schema={name}"


def shown(address: str) -> str:
    """Return a URL without its password."""
    return parsed(address).shown


class PostgresStore(Methods):
    """One handle on a schema; implements :class:`~taquba_workflow_sync.storage.port.store.Store`."""

    def __init__(self, address: Address, options: OpenOptions = _PLAIN) -> None:
        clock = SystemClock() if options.clock is None else options.clock
        is_servers = isinstance(clock, SystemClock)
        self._connections = Connections(address)
        self._now = self._connections.clock.now_ms if is_servers else clock_reader(clock)
        self._boot_clock: Any = NoBootClock()
        self._boot = 0
        self._unreadable = Unreadable()
        self._fillings = memo.Fillings()
        transactor: Any = Transactor(
            self._connections,
            owner=lambda: self._life.owner_id,
            read_clock=None if is_servers else self._now,
            is_durable=options.durability is Durability.FULL,
            bulk=settle_plain_in_bulk,
            on_commit=lambda queues, ended: self._changes.committed(queues, ended, transactor.commits),
            failpoint=options.failpoint,
        )
        self._commits = GroupCommit(transactor)
        self._life = Life(
            self._connections,
            options,
            clerk=lambda: self._commits.clerk,
            changes=lambda: self._changes,
            forget_parent=self._forget_parent,
        )
        self._access: Access = Access(self._life.use, self._connections, self._commits)
        self._changes: ChangeFeed = ChangeFeed(self._life.use, self._access, self._connections, self._commits)
        self._claims = ClaimsSeen(self._life, self._life.is_alive, self._access, self._commits, self._now)
        self._outside = Outside(self._connections, lambda: self.id, self._now)
        self._own = OwnSettings(
            self._connections,
            self._outside,
            owner=lambda: self._life.owner_id,
            read_clock=None if is_servers else self._now,
            committed=self._changes.committed,
            failpoint=options.failpoint,
        )
        deadline = time.monotonic() + (options.wait_s or 0.0)
        try:
            with closing(self._connections.open("opening")) as session:
                facts = admission.admit(session, address)
                self.id: str = schema.prepare(session, address, migrate=options.migrates)
                admission.check_rights(session, address, facts)
                ((server_ms,),) = session.run("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
                self._connections.clock.tell(server_ms)
            admission.admit_directly(self._connections, self.id)
        except psycopg.Error as error:
            raise as_not_opened(error, address.shown) from error
        self._life.begin(deadline)
        self._unsubscribe_clock = on_advance(clock, self._changes.clock_was_moved)

    def _forget_parent(self) -> None:
        self._commits.reset_after_fork()
        self._changes.reset_after_fork()

    def submit_in(self, given: Given, job: NewJob) -> Inserted:
        """Put a job in, with a program's commit."""
        self._life.use()
        return self._outside.submit(given, job)

    def signal_in(
        self, given: Given, queue: str, run_id: str, signal: NewSignal, submit: NewJob | None
    ) -> SignalOutcome:
        """Hand a signal to a run, with a program's commit."""
        self._life.use()
        return self._outside.signal(given, queue, run_id, signal, submit)

    def cancel_in(self, given: Given, queue: str, run_id: str, reason: str | None) -> bool:
        """Cancel a run, with a program's commit."""
        self._life.use()
        return self._outside.cancel(given, queue, run_id, reason)

    def kv_put_in(self, given: Given, key: str, value: bytes, ttl_ms: int | None) -> None:
        """Have a key hold a value, with a program's commit."""
        self._life.use()
        self._outside.put(given, key, value, ttl_ms)

    def own_transaction(self, connection: Any) -> PostgresOwnTransaction:
        """Begin a transaction that a step ends with."""
        self._life.use()
        return PostgresOwnTransaction(self._own, connection)

    def log_bytes(self) -> int:
        """Return 0: the server's log is not this store's."""
        self._life.use()
        return 0

    def backup(self, address: str) -> None:
        """Refuse: the server's own tools make backups."""
        self._life.use()
        raise StorageError("a store on PostgreSQL is backed up with pg_dump or the server's own backups")

    def backup_file(self, path: str) -> None:
        """Refuse: the server's own tools make backups."""
        self._life.use()
        raise StorageError("a store on PostgreSQL is backed up with pg_dump or the server's own backups")

    def examine(self) -> list[Finding]:
        """Return how the store and what it stands on are."""
        return self._access.read(examine, holds_lock, self._life.owner_id)

    def check(self) -> list[str]:
        """Return what is wrong with the store."""
        return check(self._access)

    def unreadable(self) -> list[str]:
        """Return nothing: what the server cannot read, it says."""
        return []

    def beat(self, patience: float) -> bool | None:
        """Ask the server whether it is there."""
        return self._life.beat(patience)

    def close(self) -> None:
        """Let go of everything."""
        self._unsubscribe_clock()
        self._changes.close()
        self._life.close()
