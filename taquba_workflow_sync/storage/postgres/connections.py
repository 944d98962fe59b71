"""The few sessions of one handle, and the gate that closes them all across a fork."""

from __future__ import annotations

import os
import socket
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg

from taquba_workflow_sync.errors import StoreClosedError
from taquba_workflow_sync.storage.postgres.address import Address
from taquba_workflow_sync.storage.postgres.sessions import Session, connect, connect_raw
from taquba_workflow_sync.storage.relational.gate import Gate, Room

_READERS: Final = 2
#: What goes through a pooler, where there is one; every other session has locks or listens, and needs its own server
#: process for as long as it lives.
_POOLED: Final = frozenset({"opening", "writer", "reader", "notifier"})
#: Sessions that a forked child has inherited: their sockets are its no more, and libpq must never end them.
_inherited: list[Any] = []


class ServerClock:
    """The server's time, as the last transaction has told it, carried on by this machine's monotonic clock."""

    def __init__(self) -> None:
        self._ahead_ms = 0.0

    def tell(self, server_ms: int) -> None:
        """Note what the server's clock showed a moment ago."""
        self._ahead_ms = server_ms - time.monotonic() * 1000

    def now_ms(self) -> int:
        """Return what it shows."""
        return int(time.monotonic() * 1000 + self._ahead_ms)


class Connections:
    """One writer, a few readers; opened when first needed."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.clock: ServerClock = ServerClock()
        self._is_closed = False
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start afresh, with no session and a new gate."""
        self.gate: Gate = Gate()
        self._writer: Session | None = None
        self._idle_readers: list[Session] = []
        self._readers = Room(_READERS)
        for session in tuple(getattr(self, "_all", ())):
            abandon(session)  # one that was just being opened while its process forked, too
        self._all: weakref.WeakSet[Session] = weakref.WeakSet()

    def open(self, what: str) -> Session:
        """Open one more session; the caller closes it.

        Raises:
            StoreClosedError: the store was closed meanwhile.
            psycopg.Error: the server cannot be reached.
        """
        if self._is_closed:
            raise StoreClosedError(f"the store {self.address.shown} was closed; open it again")
        session = self._opened(f"taquba {what}", is_pooled=what in _POOLED)
        self._all.add(session)
        return session

    def _opened(self, application: str, *, is_pooled: bool) -> Session:
        address = self.address
        if address.direct_dsn is None:
            return connect(address.dsn, address.schema, application=application)
        if is_pooled:
            return connect(address.dsn, address.schema, application=application, is_direct=False)
        return connect(address.direct_dsn, address.schema, application=application)

    def cut(self) -> None:
        """End every session from this side, without a word: whoever waits for an answer in one fails at once.

        For a server that nobody can reach while what is on the way to it still answers for it (a proxy, a balancer):
        there the keepalives of the link notice nothing.
        """
        for session in tuple(self._all):
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(session.raw.fileno())) as link:
                link.shutdown(socket.SHUT_RDWR)

    def open_for_program(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Open a connection that a step writes through: its values and rows are psycopg's own; the caller closes it.

        Raises:
            StoreClosedError: the store was closed meanwhile.
            psycopg.Error: the server cannot be reached.
        """
        if self._is_closed:
            raise StoreClosedError(f"the store {self.address.shown} was closed; open it again")
        return connect_raw(self.address.dsn, application="taquba step", autocommit=False)

    def writer(self) -> Session:
        """Return the session that writes; the caller commits for all and is inside the gate."""
        if self._writer is None or self._writer.is_lost():
            self.drop_writer()
            self._writer = self.open("writer")
        return self._writer

    @property
    def open_writer(self) -> Session | None:
        """The session that writes, if it is open."""
        return self._writer

    def drop_writer(self) -> None:
        """Close the writer, whose state is in doubt."""
        session, self._writer = self._writer, None
        if session is not None:
            with suppress(psycopg.Error):
                session.close()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Lend a session for a short read."""
        session: Session | None = None
        is_sound = False
        token = object()
        room, gate = self._readers, self.gate
        try:
            room.enter(token)
            gate.enter(token)
            session = self._idle_reader() or self.open("reader")
            yield session
            is_sound = not session.raw.closed and not session.in_transaction
        finally:
            try:
                if session is not None and is_sound:
                    self._idle_readers.append(session)
                elif session is not None:
                    session.close()
            finally:
                try:
                    gate.leave(token, None)
                finally:
                    room.leave(token, None)
            gate.tell()
            room.tell()

    def _idle_reader(self) -> Session | None:
        """Return a reader that waits; one that the server has ended meanwhile is nobody's error."""
        while self._idle_readers:
            session = self._idle_readers.pop()
            if not session.is_lost():
                return session
            with suppress(psycopg.Error):
                session.close()
        return None

    def close(self, *, for_good: bool = False) -> None:
        """Close every session; the caller has shut the gate or is the last to use them."""
        self._is_closed = self._is_closed or for_good
        self.drop_writer()
        idle = list(self._idle_readers)
        self._idle_readers.clear()
        for session in idle:
            with suppress(psycopg.Error):
                session.close()


def abandon(session: Session) -> None:
    """In a forked child: let go of a session of the parent's without a word to its server.

    The descriptor goes on to be this process's, of nothing: libpq would else write its farewell into whatever file gets
    the number next.
    """
    _inherited.append(session)
    with suppress(OSError, psycopg.Error):
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, session.raw.fileno())
        os.close(nothing)
