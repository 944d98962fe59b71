"""The proof that one owner lives: a session that holds a lock, says nothing, and is opened again where it is lost."""

from __future__ import annotations

import _thread
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psycopg

from taquba_workflow_sync.errors import StorageError, StoreInUseError, TaqubaError
from taquba_workflow_sync.storage.port.worker import owner_name
from taquba_workflow_sync.storage.postgres.connections import Connections, abandon
from taquba_workflow_sync.storage.postgres.errors import first_line
from taquba_workflow_sync.storage.postgres.observing import holds_lock
from taquba_workflow_sync.storage.postgres.sessions import Session
from taquba_workflow_sync.storage.postgres.sql import owners
from taquba_workflow_sync.wakeup import WakeUp

_log = logging.getLogger(__name__)

_LOOK_AGAIN: Final = 0.05
# How often a use looks whether the session is still there; that costs one system call.
_CHECK_EVERY: Final = 0.1
#: A beat that has waited so long for its answer waits no more: what is between us and the server may go on answering
#: for it. As long as the link itself would take to notice.
UNANSWERED_S: Final = 8.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0


class Liveness:
    """One handle as an owner. Its key is fresh each time, so who watched the last one is not deceived by it."""

    def __init__(self, connections: Connections, *, is_exclusive: bool, on_again: Callable[[], None]) -> None:
        self._connections = connections
        self._is_exclusive = is_exclusive
        self._on_again = on_again
        self.owner_id: str = ""
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start as nobody; the parent's session stays the parent's."""
        session: Session | None = getattr(self, "_session", None)
        if session is not None:
            abandon(session)
        self._session: Session | None = None
        self._is_over = False
        self._is_asked = False
        self._asked_at = 0.0
        self._next_check = 0.0
        self._using = threading.Lock()
        #: Held by the thread that opens a session again, for as long as there is one.
        self._opening = threading.Lock()
        #: Why this handle is not the only one any more, which it insists on being; until it is again.
        self.refused: StoreInUseError | None = None
        self._wakeup = WakeUp()

    def begin(self, deadline: float) -> None:
        """Become an owner; who insists on being the only one is waited for until ``deadline`` (monotonic).

        Raises:
            StoreInUseError: another handle insists on being the only one, or this one does.
            psycopg.Error: the server cannot be reached.
        """
        self._session, self.owner_id = self._opened(deadline, "")

    def _opened(self, deadline: float, owner: str) -> tuple[Session, str]:
        session = self._connections.open("liveness")
        try:
            self._take_alone(session, deadline)
            sequence = f'"{self._connections.address.schema}".taquba_live_key'
            ((number,),) = session.execute(owners.NEXT_KEY, (sequence,)).fetchall()
            key = self._connections.address.key(f"owner {number}")
            # First held, then recorded: at no moment does the row name a lock that nobody holds yet.
            session.execute(owners.HOLD, (key,))
            if not owner or not session.execute(owners.RECORD_AGAIN, (key, owner)).rowcount:
                if owner:
                    _log.warning("owner %s was declared dead; its steps may run elsewhere, this process goes on", owner)
                owner = owner_name(os.getpid(), is_exclusive=self._is_exclusive)
                values = (owner, key, os.uname().nodename, os.getpid(), int(self._is_exclusive))
                session.execute(owners.RECORD, values)
        except BaseException:
            session.close()
            raise
        return session, owner

    def _take_alone(self, session: Session, deadline: float) -> None:
        """Hold the lock of those who have the store open: shared, or alone."""
        key = self._connections.address.key("open")
        attempt = owners.TRY_ALONE if self._is_exclusive else owners.TRY_SHARED
        pause = WakeUp()
        while True:
            ((taken,),) = session.execute(attempt, (key,)).fetchall()
            if taken:
                return
            if time.monotonic() >= deadline:
                raise StoreInUseError(self._in_use(session))
            pause.wait(_LOOK_AGAIN)

    def _in_use(self, session: Session) -> str:
        rows = session.execute(owners.EVERYBODY).fetchall()
        living = [row for row in rows if holds_lock(session, row[0])]
        who = ", ".join(f"process {pid} on {host}" for _, host, pid, _ in living) or "another process"
        how = " as its only handle" if any(row[3] for row in living) else ""
        where = self._connections.address.shown
        return f"{where} is open in {who}{how}; close it there, or wait for that process to end"

    def check(self) -> None:
        """Have the session opened again if it is lost; looks now and then only, and never waits."""
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + _CHECK_EVERY
        session = self._session
        # Not even libpq is asked here: this may be a user's thread, where a signal handler raises what it likes, and
        # another thread of ours may be reading the answer to a beat.
        if session is None or (not self._is_asked and session.is_readable()):
            self._reopen()

    def beat(self, patience: float) -> bool:
        """Ask the server over the session; whether it has answered within ``patience`` seconds.

        An answer that is late is waited for by the next call. Who is told that its name is no longer a living owner's
        takes another.
        """
        with self._using:
            session = self._session
            if session is None:
                self._reopen()
                return False
            try:
                answer = self._asked(session, patience)
            except psycopg.Error:
                self._lose()
                return False
            if answer is None:
                if time.monotonic() - self._asked_at >= UNANSWERED_S:
                    _log.warning("the server has not answered for %.0f s: every session is opened anew", UNANSWERED_S)
                    self._connections.cut()
                    self._lose()
                return False
            if answer != b"live":
                self._lose()
            return True

    def _asked(self, session: Session, patience: float) -> bytes | None:
        link = session.raw.pgconn
        until = time.monotonic() + patience
        if not self._is_asked:
            question = owners.STATE.format(schema=session.schema, owner=self.owner_id)
            link.send_query(question.encode())
            link.flush()
            self._is_asked, self._asked_at = True, time.monotonic()
        poll = select.poll()
        poll.register(link.socket, select.POLLIN)
        answer = b""
        while True:
            while not link.is_busy():
                result = link.get_result()
                if result is None:
                    self._is_asked = False
                    return answer
                if result.ntuples:
                    answer = result.get_value(0, 0) or b""
                elif result.error_message:
                    raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
            left = until - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                return None
            link.consume_input()

    def _lose(self) -> None:
        """Let go of a session that is of no use, and have another one opened."""
        session, self._session = self._session, None
        self._is_asked = False
        if session is not None:
            with suppress(psycopg.Error):
                session.close()
        self._reopen()

    def _reopen(self) -> None:
        """Have a thread open a session. Not by ``Thread.start``, which a signal handler may leave half done."""
        if self._is_over or self._opening.locked():
            return
        with suppress(RuntimeError):  # no more threads: the next use tries again
            _thread.start_new_thread(self._open_again, ())

    def _open_again(self) -> None:
        if not self._opening.acquire(blocking=False):
            return  # another thread does: two sessions would be one too many
        try:
            self._keep_opening()
        except Exception:
            _log.exception("the session that shows that this process lives is not opened again until the next use")
        finally:
            self._opening.release()

    def _keep_opening(self) -> None:
        pause = _FIRST_PAUSE
        has_said = False
        with self._using:
            lost = self._session
            if lost is not None:
                if self._is_asked or not lost.is_lost():
                    return
                self._session = None
                with suppress(psycopg.Error):
                    lost.close()
        while not self._is_over:
            try:
                session, owner = self._opened(time.monotonic(), self.owner_id)
            except (psycopg.Error, TaqubaError) as error:
                self.refused = error if isinstance(error, StoreInUseError) else None
                if not has_said:
                    _log.warning("the session that shows that this process lives is lost: %s", first_line(error))
                has_said = True
                self._wakeup.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            with self._using:
                if self._is_over:
                    session.close()
                    return
                self._session, self.owner_id = session, owner
                self.refused = None
            self._on_again()
            return

    @property
    def has_session(self) -> bool:
        """Whether the proof is there, as far as is known."""
        return self._session is not None

    def be_quiet(self, patience: float) -> None:
        """End the thread that opens the session again, for a fork: the next use has another begin."""
        self._is_over = True
        self._wakeup.notify()
        if self._opening.acquire(timeout=patience):
            self._opening.release()

    def go_on(self) -> None:
        """Undo :meth:`be_quiet`, in the process that has forked."""
        self._is_over = False
        with self._using:
            if self._session is None:
                self._reopen()

    def end(self, has_claims: Callable[[Session], bool], patience: float) -> None:
        """Say that this owner is gone, so that nobody waits out its grace, and let go of the lock."""
        self.be_quiet(patience)
        with self._using:
            session, self._session = self._session, None
        if session is None or self._is_asked:
            if session is not None:
                with suppress(psycopg.Error):
                    session.close()
            return
        with suppress(psycopg.Error, StorageError):
            if has_claims(session):
                session.execute(owners.LEAVE, (self.owner_id,))
            else:
                session.execute(owners.FORGET, (self.owner_id,))
        with suppress(psycopg.Error):
            # Or the lock would be held until the server has noticed that nobody is there.
            session.execute(owners.LET_GO_OF_ALL)
            session.close()
