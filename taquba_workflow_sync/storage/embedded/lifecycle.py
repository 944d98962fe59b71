"""The life of one handle: opened, an owner among others, over forks, closed."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from taquba_workflow_sync.errors import StorageError, StoreClosedError, StoreInUseError
from taquba_workflow_sync.failpoints import between
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.filesystem import sync_directory
from taquba_workflow_sync.storage.embedded.locks import opening
from taquba_workflow_sync.storage.embedded.owners import Owner, is_alive, owners_in
from taquba_workflow_sync.storage.port.store import OpenOptions
from taquba_workflow_sync.storage.relational import reads
from taquba_workflow_sync.storage.relational.clerk import Clerk
from taquba_workflow_sync.storage.relational.forks import ForkGuard, forget, guard_forks_of
from taquba_workflow_sync.storage.relational.gate import Room
from taquba_workflow_sync.wakeup import WakeUp

_log = logging.getLogger(__name__)

_EXIT_PATIENCE: Final = 5.0
_FORK: Final = "fork"
_FORK_PATIENCE: Final = 2.0
_CLOSE: Final = "close"
_CLOSE_PATIENCE: Final = 5.0
_LOOK_AGAIN: Final = 0.02


class Lifecycle(ForkGuard):
    """Whether a handle may be used, and as whom; ``forget_parent`` is what else a forked child starts afresh."""

    def __init__(
        self,
        root: Path,
        connections: Connections,
        options: OpenOptions,
        *,
        clerk: Callable[[], Clerk],
        forget_parent: Callable[[], None],
    ) -> None:
        self.root = root
        self._connections = connections
        self._options = options
        self._clerk = clerk
        self._forget_parent = forget_parent
        self._is_closed = False
        self._is_attached = False
        self._gate_is_shut = False
        self._attaching = Room(1)
        self.owner: Owner

    @property
    def owner_id(self) -> str:
        """The name that this handle's claims bear."""
        return self.owner.id

    def begin(self, deadline: float) -> None:
        """Become an owner, others waited for until ``deadline`` (monotonic), and be told of forks from now on."""
        self._attach(deadline)
        guard_forks_of(self)

    def use(self) -> None:
        """Check that the handle is open; in a forked child, become an owner first.

        Raises:
            StoreClosedError: it was closed.
            StoreInUseError: a forked child of an exclusive handle, whose parent has it open.
        """
        if self._is_closed:
            raise StoreClosedError(f"the store {self.root} was closed; open it again")
        if not self._is_attached:
            self._attach(time.monotonic() + (self._options.wait_s or 0.0))

    def _attach(self, deadline: float) -> None:
        """Become an owner: at open, and again in a forked child, which must not act under its parent's lock."""
        if self._attaching.holds(threading.get_ident()):
            raise RuntimeError("the store was called from a signal handler that interrupted its opening")
        token = object()
        try:
            self._attaching.enter(token)
            if self._is_attached:
                return
            owner = self._take_owner(deadline)
            # Or a power cut takes the file and leaves the claims, and nobody could tell that their owner is dead.
            with suppress(OSError):
                sync_directory(self.root / "owners")
            self.owner = owner
            self._is_attached = True
        finally:
            self._attaching.leave(token, None)
            self._attaching.tell()
        self.clean()

    def _take_owner(self, deadline: float) -> Owner:
        failpoint = self._options.failpoint
        pause = WakeUp()
        while True:
            owner = Owner(self.root / "owners", is_exclusive=self._options.is_exclusive, failpoint=failpoint)
            try:
                # Let go between two looks: who closes needs it not, but who opens does, and must not wait with us.
                with opening(self.root):
                    between(failpoint, "lock-owner", owner.take)()
                return owner
            except StoreInUseError:
                if time.monotonic() >= deadline:
                    raise
            pause.wait(_LOOK_AGAIN)

    def clean(self) -> None:
        """Clear away the locks of the dead: housekeeping, whose failure is none of the caller's."""
        try:
            self.owner.clean(self._has_claims)
        except (OSError, sqlite3.Error, StorageError) as error:
            _log.warning("cannot clear away the locks of dead owners: %s", error)

    def look(self) -> None:
        """Do nothing: each owner's lock is looked at when it is asked for."""

    def owners(self) -> list[str]:
        """Return whose lock files are there."""
        try:
            return owners_in(self.root / "owners")
        except OSError as error:
            raise StorageError(f"cannot look who has {self.root} open: {error}") from error

    def lives(self, owners: Collection[str]) -> dict[str, bool | None]:
        """Return who holds its lock; another that probes it at this moment looks like its holder."""
        return {each: True if each == self.owner.id else is_alive(self.root / "owners", each) for each in owners}

    def is_suspect(self, owner: str) -> bool:
        """Return False: a lock that can be taken proves death at once."""
        del owner
        return False

    def _has_claims(self, owner: str) -> bool:
        with self._connections.reading() as connection:
            return reads.has_claims(connection, owner)

    def close(self, *, patience: float = float("inf")) -> None:
        """Let go of every connection, then of the owner lock; idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        forget(self)
        has_claims = True
        if self._is_attached:
            with suppress(sqlite3.Error, StorageError):
                has_claims = self._has_claims(self.owner.id)
        clerk, gate = self._clerk(), self._connections.gate
        gate.shut(patience)
        try:
            between(self._options.failpoint, "close", self._connections.close)(for_good=True)
        finally:
            gate.open()
        # After the connections: a clerk that waits for another process's lock learns by them that it is over.
        clerk.keep_away(_CLOSE, min(patience, _CLOSE_PATIENCE))
        clerk.let_back(_CLOSE)  # whoever is in line yet gets an answer, which is that the store is closed
        if self._is_attached:
            self.owner.leave(has_claims=has_claims)

    def close_at_exit(self) -> None:
        """Close what nobody closed; a daemon thread inside a call is not waited for without end."""
        self.close(patience=_EXIT_PATIENCE)

    def before_fork(self) -> None:
        """End the clerk, let running calls end, keep new ones waiting, close every connection."""
        # Bounded: a clerk that waits for another process's lock or for a user's clock is kept from using a connection
        # by the gate, which is what matters; that it is gone only keeps Python from warning of threads.
        self._clerk().keep_away(_FORK, _FORK_PATIENCE)
        if not self._gate_is_shut:
            self._connections.gate.shut()
            self._gate_is_shut = True
        with suppress(sqlite3.Error):
            self._connections.close()

    def after_fork_in_parent(self) -> None:
        """Let calls in again; connections open when they are needed."""
        if self._gate_is_shut:
            self._gate_is_shut = False
            self._connections.gate.open()
        self._clerk().let_back(_FORK)

    def after_fork_in_child(self) -> None:
        """Start as a new owner with no connection, no listener and nothing in line."""
        self._connections.reset_after_fork()
        self._attaching = Room(1)
        self._is_attached = False
        self._gate_is_shut = False
        self._forget_parent()
