"""The life of one handle: opened, an owner among others, over forks, closed; and who else lives.

An owner lives while its liveness session does (``liveness``); who else does is seen in ``observing``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import Final

import psycopg

from taquba_workflow_sync.errors import StorageError, StoreClosedError, StoreInUseError
from taquba_workflow_sync.failpoints import between
from taquba_workflow_sync.storage.port.store import OpenOptions
from taquba_workflow_sync.storage.postgres.changes import ChangeFeed
from taquba_workflow_sync.storage.postgres.connections import Connections
from taquba_workflow_sync.storage.postgres.errors import as_not_opened, first_line
from taquba_workflow_sync.storage.postgres.liveness import Liveness
from taquba_workflow_sync.storage.postgres.observing import Observer
from taquba_workflow_sync.storage.postgres.sql import owners
from taquba_workflow_sync.storage.relational import reads
from taquba_workflow_sync.storage.relational.clerk import Clerk
from taquba_workflow_sync.storage.relational.forks import ForkGuard, forget, guard_forks_of
from taquba_workflow_sync.storage.relational.gate import Room

_log = logging.getLogger(__name__)

_EXIT_PATIENCE: Final = 5.0
_CLOSE_PATIENCE: Final = 5.0
_FORK_PATIENCE: Final = 2.0
_LEAVE_PATIENCE: Final = 2.0


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
        self._observer = Observer(connections)
        self._liveness = Liveness(connections, is_exclusive=options.is_exclusive, on_again=self._observer.begin_anew)

    @property
    def owner_id(self) -> str:
        """The name that this handle's claims bear; another one once it was declared dead, or has forked."""
        return self._liveness.owner_id

    def begin(self, deadline: float) -> None:
        """Become an owner, others waited for until ``deadline`` (monotonic), and be told of forks from now on."""
        self._attach(deadline)
        guard_forks_of(self)

    def use(self) -> None:
        """Check that the handle is open; in a forked child, become an owner first.

        Raises:
            StoreClosedError: it was closed.
            StoreInUseError: it insists on being the only one, has lost its session, and another is there now.
        """
        self._check_open()
        if not self._is_attached:
            self._attach(time.monotonic() + (self._options.wait_s or 0.0))
        self._liveness.check()
        if self._liveness.refused is not None:
            raise StoreInUseError(*self._liveness.refused.args)

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreClosedError(f"the store {self._connections.address.shown} was closed; open it again")

    def _attach(self, deadline: float) -> None:
        if self._attaching.holds(threading.get_ident()):
            raise RuntimeError("the store was called from a signal handler that interrupted its opening")
        token = object()
        try:
            self._attaching.enter(token)
            if self._is_attached:
                return
            try:
                self._liveness.begin(deadline)
            except psycopg.Error as error:
                raise as_not_opened(error, self._connections.address.shown) from error
            self._is_attached = True
        finally:
            self._attaching.leave(token, None)
            self._attaching.tell()
        self.clean()

    def look(self) -> None:
        """Look who lives, and declare dead whose grace is over."""
        self._observer.look()

    def owners(self) -> dict[str, bool | None]:
        """Return who has the store open, or may have."""
        try:
            return self._observer.owners()
        except psycopg.Error as error:
            where = self._connections.address.shown
            raise StorageError(f"cannot look who has {where} open: {first_line(error)}") from error

    def lives(self, owners: Collection[str]) -> dict[str, bool | None]:
        """Return who lives now, of everybody that the server knows of."""
        del owners
        return self.owners()

    def is_alive(self, owner: str, patience: float) -> bool | None:
        """Whether an owner lived at the last look; None where nothing is known of it."""
        return self._observer.is_alive(owner, patience)

    def is_suspect(self, owner: str) -> bool:
        """Whether it is not known yet whether an owner is dead, and soon will be."""
        return self._observer.is_suspect(owner)

    def beat(self, patience: float) -> bool:
        """Ask the server whether it is there; see ``Presence.beat``."""
        self._check_open()
        return self._liveness.beat(patience)

    def clean(self) -> None:
        """Clear away the rows of the dead that have no claims: housekeeping, whose failure is none of the caller's."""
        try:
            with self._connections.reading() as session:
                for (owner,) in session.execute(owners.DEAD).fetchall():
                    if owner != self.owner_id and not reads.has_claims(session, owner):
                        session.execute(owners.FORGET, (owner,))
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
        self._liveness.end(lambda session: reads.has_claims(session, self.owner_id), _LEAVE_PATIENCE)

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
        self._liveness.be_quiet(_FORK_PATIENCE)

    def after_fork_in_parent(self) -> None:
        """Let calls in again."""
        if self._gate_is_shut:
            self._gate_is_shut = False
            self._connections.gate.open()
        self._clerk().let_back("fork")
        self._changes().go_on()
        self._liveness.go_on()

    def after_fork_in_child(self) -> None:
        """Start as a new owner; the parent's liveness session stays the parent's."""
        self._liveness.reset_after_fork()
        self._connections.reset_after_fork()
        self._observer.reset_after_fork()
        self._attaching = Room(1)
        self._is_attached = False
        self._gate_is_shut = False
        self._forget_parent()
