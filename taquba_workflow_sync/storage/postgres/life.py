"""The life of one handle: opened, an owner among others, over forks, closed; and who else lives.

An owner lives while its liveness session does, which holds an advisory lock under the key that its row names.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psycopg

from taquba_workflow_sync.errors import StorageError, StoreClosedError, StoreInUseError
from taquba_workflow_sync.failpoints import between
from taquba_workflow_sync.storage.port.store import OpenOptions
from taquba_workflow_sync.storage.postgres.changes import ChangeFeed
from taquba_workflow_sync.storage.postgres.connections import Connections, abandon
from taquba_workflow_sync.storage.postgres.errors import as_not_opened, first_line
from taquba_workflow_sync.storage.postgres.sessions import Session
from taquba_workflow_sync.storage.relational import reads
from taquba_workflow_sync.storage.relational.clerk import Clerk
from taquba_workflow_sync.storage.relational.forks import ForkGuard, forget, guard_forks_of
from taquba_workflow_sync.storage.relational.gate import Room
from taquba_workflow_sync.wakeup import WakeUp

_log = logging.getLogger(__name__)

_EXIT_PATIENCE: Final = 5.0
_CLOSE_PATIENCE: Final = 5.0
_FORK_PATIENCE: Final = 2.0
_LOOK_AGAIN: Final = 0.05
_PROBE_AGAIN: Final = 0.01


class Life(ForkGuard):
    """Whether a handle may be used, and as whom."""

    def __init__(
        self,
        connections: Connections,
        options: OpenOptions,
        *,
        clerk: Callable[[], Clerk],
        changes: Callable[[], ChangeFeed],
        forget_parent: Callable[[], None],
    ) -> None:
        self._connections = connections
        self._options = options
        self._clerk = clerk
        self._changes = changes
        self._forget_parent = forget_parent
        self._is_closed = False
        self._is_attached = False
        self._gate_is_shut = False
        self._attaching = Room(1)
        self._session: Session | None = None
        self.owner_id: str = ""

    def begin(self, deadline: float) -> None:
        """Become an owner, others waited for until ``deadline`` (monotonic), and be told of forks from now on."""
        self._attach(deadline)
        guard_forks_of(self)

    def use(self) -> None:
        """Check that the handle is open; in a forked child, become an owner first.

        Raises:
            StoreClosedError: it was closed.
        """
        if self._is_closed:
            raise StoreClosedError(f"the store {self._connections.address.shown} was closed; open it again")
        if not self._is_attached:
            self._attach(time.monotonic() + (self._options.wait_s or 0.0))

    def _attach(self, deadline: float) -> None:
        if self._attaching.holds(threading.get_ident()):
            raise RuntimeError("the store was called from a signal handler that interrupted its opening")
        token = object()
        try:
            self._attaching.enter(token)
            if self._is_attached:
                return
            try:
                self._take(deadline)
            except psycopg.Error as error:
                raise as_not_opened(error, self._connections.address.shown) from error
            self._is_attached = True
        finally:
            self._attaching.leave(token, None)
            self._attaching.tell()
        self.clean()

    def _take(self, deadline: float) -> None:
        address = self._connections.address
        session = self._connections.open("liveness")
        try:
            self._take_alone(session, deadline)
            ((number,),) = session.execute(
                "SELECT nextval(CAST(? AS REGCLASS))", (f'"{address.schema}".taquba_live_key',)
            ).fetchall()
            key = address.key(f"owner {number}")
            session.execute("SELECT pg_advisory_lock(?)", (key,))
            suffix = "-x" if self._options.is_exclusive else ""
            owner = f"{os.getpid()}-{secrets.token_hex(8)}{suffix}"
            session.execute(
                "INSERT INTO taquba_live (owner, lock_key, host, pid, is_exclusive) VALUES (?, ?, ?, ?, ? <> 0)",
                (owner, key, os.uname().nodename, os.getpid(), int(self._options.is_exclusive)),
            )
        except BaseException:
            session.close()
            raise
        self._session, self.owner_id = session, owner

    def _take_alone(self, session: Session, deadline: float) -> None:
        """Hold the lock of those who have the store open: shared, or alone.

        Raises:
            StoreInUseError: another handle insists on being the only one, or this one does.
        """
        key = self._connections.address.key("open")
        kind = "pg_try_advisory_lock" if self._options.is_exclusive else "pg_try_advisory_lock_shared"
        pause = WakeUp()
        while True:
            ((taken,),) = session.execute(f"SELECT {kind}(?)", (key,)).fetchall()
            if taken:
                return
            if time.monotonic() >= deadline:
                raise StoreInUseError(self._in_use(session))
            pause.wait(_LOOK_AGAIN)

    def _in_use(self, session: Session) -> str:
        rows = session.execute("SELECT owner, host, pid, is_exclusive FROM taquba_live").fetchall()
        living = [row for row in rows if self._lives(session, row[0])]
        who = ", ".join(f"process {pid} on {host}" for _, host, pid, _ in living) or "another process"
        how = " as its only handle" if any(row[3] for row in living) else ""
        where = self._connections.address.shown
        return f"{where} is open in {who}{how}; close it there, or wait for that process to end"

    def holds_lock(self, session: Session, owner: str) -> bool | None:
        """Whether an owner's session holds its lock at this moment; None: there is no such owner."""
        return self._lives(session, owner)

    def _lives(self, session: Session, owner: str) -> bool | None:
        found = session.execute(
            "SELECT pg_try_advisory_xact_lock_shared(lock_key) FROM taquba_live WHERE owner = ?", (owner,)
        ).fetchone()
        return None if found is None else not found[0]

    def is_alive(self, owner: str, patience: float) -> bool | None:
        """Whether an owner's session holds its lock; None where nothing is known of it."""
        try:
            with self._connections.reading() as session:
                until = time.monotonic() + patience
                pause = WakeUp()
                while (lives := self._lives(session, owner)) and time.monotonic() < until:
                    pause.wait(_PROBE_AGAIN)  # another process that probes looks like a holder for a moment
                return lives
        except psycopg.Error as error:
            _log.warning("cannot look whether owner %s lives: %s", owner, first_line(error))
            return None

    def clean(self) -> None:
        """Clear away the rows of the dead that have no claims: housekeeping, whose failure is none of the caller's."""
        try:
            with self._connections.reading() as session:
                for (owner,) in session.execute("SELECT owner FROM taquba_live").fetchall():
                    is_dead = owner != self.owner_id and self._lives(session, owner) is False
                    if is_dead and not reads.has_claims(session, owner):
                        session.execute("DELETE FROM taquba_live WHERE owner = ?", (owner,))
        except (psycopg.Error, StorageError) as error:
            _log.warning("cannot clear away the dead owners: %s", error)

    def close(self, *, patience: float = float("inf")) -> None:
        """Let go of every session, then of the owner's lock; idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        forget(self)
        clerk, gate = self._clerk(), self._connections.gate
        gate.shut(patience)
        try:
            between(self._options.failpoint, "close", self._connections.close)(for_good=True)
        finally:
            gate.open()
        clerk.keep_away("close", min(patience, _CLOSE_PATIENCE))
        clerk.let_back("close")
        session, self._session = self._session, None
        if session is not None:
            with suppress(psycopg.Error):
                if not reads.has_claims(session, self.owner_id):
                    session.execute("DELETE FROM taquba_live WHERE owner = ?", (self.owner_id,))
            with suppress(psycopg.Error):
                # Or the lock would be held until the server has noticed that nobody is there.
                session.execute("SELECT pg_advisory_unlock_all()")
                session.close()

    def close_at_exit(self) -> None:
        """Close what nobody closed; a daemon thread inside a call is not waited for without end."""
        self.close(patience=_EXIT_PATIENCE)

    def before_fork(self) -> None:
        """End the clerk, let running calls end, keep new ones waiting, close the sessions that can be opened again."""
        self._changes().be_quiet()
        self._clerk().keep_away("fork", _FORK_PATIENCE)
        if not self._gate_is_shut:
            self._connections.gate.shut()
            self._gate_is_shut = True
        self._connections.close()

    def after_fork_in_parent(self) -> None:
        """Let calls in again."""
        if self._gate_is_shut:
            self._gate_is_shut = False
            self._connections.gate.open()
        self._clerk().let_back("fork")
        self._changes().go_on()

    def after_fork_in_child(self) -> None:
        """Start as a new owner; the parent's liveness session stays the parent's."""
        session, self._session = self._session, None
        if session is not None:
            abandon(session)
        self._connections.reset_after_fork()
        self._attaching = Room(1)
        self._is_attached = False
        self._gate_is_shut = False
        self._forget_parent()
