"""How a handle hears of commits: of this process's at once, of others' by the server's word."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

import psycopg

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.port.changes import Changes, CommitListener, Leader
from taquba_workflow_sync.storage.postgres.access import Access
from taquba_workflow_sync.storage.postgres.connections import Connections
from taquba_workflow_sync.storage.postgres.sessions import Session, wait_for
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.clerk import Clerk
from taquba_workflow_sync.storage.relational.group_commit import GroupCommit
from taquba_workflow_sync.wakeup import WakeUp

_log = logging.getLogger(__name__)

#: A process tells the others of its commits at most so often.
_TELL_EVERY: Final = 0.005
#: Without a word, everyone looks again after this long.
_LOOK_EVERY: Final = 1.0
#: How long the listener stays after the last one who waited.
_LISTENS_FOR: Final = 2.0
_PATIENCE: Final = 2.0


def _commits(session: Session) -> int:
    ((commits,),) = session.execute(sql.READ_META, ("commits",)).fetchall()
    number: int = commits
    return number


def _end(session: Session | None) -> None:
    """End a session that an error has come out of, whatever is left of it."""
    if session is not None:
        with suppress(psycopg.Error):
            session.close()


class _Version(NamedTuple):
    commits: int
    moves: int


class ChangeFeed:
    """What one handle's threads are told of commits."""

    def __init__(self, use: Callable[[], None], access: Access, connections: Connections, commits: GroupCommit) -> None:
        self._use = use
        self._access = access
        self._connections = connections
        self._commits = commits
        self._moves = 0
        #: How many commits of anybody's that wrote something are known of.
        self._seen = 0
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget who listens and sleeps: those are the parent's threads."""
        self._listeners: list[CommitListener] = []
        self._sleeping: dict[WakeUp, None] = {}
        self._starting = threading.Lock()
        self._learning = threading.Lock()
        self._ear: threading.Thread | None = None
        #: Who tells the other processes, while there is something to tell; and the last commit of ours, and told of.
        self._mouth: Clerk = Clerk(self._tell_others, self._has_to_tell)
        self._speaker: Session | None = None
        self._own = self._told = self._seen
        self._is_over = False
        self._wanted_until = 0.0
        #: What is written to the one end wakes who listens at the other.
        self._ends = socket.socketpair()

    @property
    def _channel(self) -> str:
        return f"taquba_{self._connections.address.schema}"

    def wait_for_changes(self, since: object, timeout: float, wakeup: WakeUp) -> Changes:
        """Wait for a change; see :meth:`~taquba_workflow_sync.storage.port.changes.ChangeSource.wait_for_changes`."""
        self._use()
        self._listen()
        until = time.monotonic() + timeout
        self._sleeping[wakeup] = None
        try:
            if since is None:
                self._look()
            while True:
                version = _Version(self._seen, self._moves)
                if version != since:
                    return Changes(version, True)
                left = until - time.monotonic()
                if left <= 0:
                    if timeout <= 0:
                        self._look()
                        version = _Version(self._seen, self._moves)
                    return Changes(version, version != since)
                if wakeup.wait(min(left, _LOOK_EVERY)):
                    self._use()
                    version = _Version(self._seen, self._moves)
                    return Changes(version, version != since)
                self._look()
        finally:
            self._sleeping.pop(wakeup, None)

    def _look(self) -> None:
        """Ask the store how many commits there were: a word of another process's may be on its way."""
        self._learn(self._access.read(_commits))

    def _learn(self, commits: int) -> None:
        """Take that so many commits have been made, and wake who waits if these are more than were known."""
        with self._learning:
            if commits <= self._seen:
                return
            self._seen = commits
        for wakeup in tuple(self._sleeping):
            wakeup.notify()

    def clock_was_moved(self) -> None:
        """Have everyone who waits look again: other things are due now."""
        self._moves += 1
        for wakeup in tuple(self._sleeping):
            wakeup.notify()

    def committed(self, queues: frozenset[str], ended: frozenset[str], commits: int) -> None:
        """Tell the listeners of a commit of this process, the store's ``commits``-th, and the other processes soon."""
        self._learn(commits)
        self._own = max(self._own, commits)
        self._mouth.wake()
        if queues or ended:
            for listener in tuple(self._listeners):
                listener(queues, ended)

    def _has_to_tell(self) -> bool:
        return self._told < self._own

    def _tell_others(self) -> None:
        """Say how many commits there were; at most so often, however many there are."""
        number = self._own
        session = self._speaker
        try:
            if session is None or session.raw.closed:
                session = self._speaker = self._connections.open("notifier")
            session.run(f"NOTIFY \"{self._channel}\", '{number}'")
        except (psycopg.Error, StorageError):
            self._speaker = None  # who was not told looks for itself within a second
            _end(session)
        self._told = max(self._told, number)
        WakeUp().wait(_TELL_EVERY)

    def _listen(self) -> None:
        """Have a thread that listens, and wait until it does."""
        self._wanted_until = time.monotonic() + _LISTENS_FOR
        if self._ear is not None:
            return
        heard = threading.Event()
        with self._starting:
            if self._ear is not None or self._is_over:
                return
            thread = threading.Thread(target=self._hear, args=(heard,), name="taquba-listener", daemon=True)
            thread.start()
            self._ear = thread
        heard.wait(_LOOK_EVERY)

    def _is_wanted(self) -> bool:
        """Whether the listener goes on; if not, the next one who waits starts another."""
        with self._starting:
            if not self._is_over and (self._sleeping or time.monotonic() < self._wanted_until):
                return True
            self._ear = None
            return False

    def _hear(self, heard: threading.Event) -> None:
        session: Session | None = None
        while self._is_wanted():
            try:
                if session is None or session.raw.closed:
                    session = self._connections.open("listener")
                    session.run(f'LISTEN "{self._channel}"')
                    self._look()  # of what came before nobody has told
                    heard.set()
                self._hear_some(session)
            except (psycopg.Error, StorageError):
                _end(session)
                session = None
                heard.set()
                wait_for(self._ends[0].fileno(), timeout=_LOOK_EVERY)
        if session is not None:
            with suppress(psycopg.Error):
                session.close()

    def _hear_some(self, session: Session) -> None:
        """Wait for words of the server's; each says how many commits there were."""
        link = session.raw.pgconn
        wait_for(link.socket, self._ends[0].fileno(), timeout=_LOOK_EVERY)
        link.consume_input()
        while (word := link.notifies()) is not None:
            if word.extra:
                self._learn(int(word.extra))
            else:
                self._look()  # a program's own transaction has put something in

    def close(self) -> None:
        """End the threads that tell and hear."""
        if self._is_over:
            return
        self.be_quiet()
        for end in self._ends:
            end.close()

    def be_quiet(self) -> None:
        """End who tells and who hears, with their sessions: for a fork, or for good."""
        self._is_over = True
        ear = self._ear
        self._ends[1].send(b"x")
        self._mouth.keep_away("quiet", _PATIENCE)
        session, self._speaker = self._speaker, None
        if session is not None:
            with suppress(psycopg.Error):
                session.close()
        if ear is not None and ear is not threading.current_thread():
            ear.join(_PATIENCE)

    def go_on(self) -> None:
        """Undo :meth:`be_quiet`, in the process that has forked."""
        for end in self._ends:
            end.close()
        self._ends = socket.socketpair()
        self._is_over = False
        self._mouth.let_back("quiet")

    @contextmanager
    def on_commit(self, listener: CommitListener) -> Iterator[None]:
        """Have ``listener`` called after each commit of this process while the block runs."""
        self._use()
        self._listeners.append(listener)
        try:
            yield
        finally:
            with suppress(ValueError):
                self._listeners.remove(listener)

    @contextmanager
    def lead(self, on_waiting: Callable[[], None]) -> Iterator[Leader | None]:
        """Have the calling thread commit for everyone while the block runs; None if another does."""
        self._use()
        if not self._commits.begin_leading(on_waiting):
            yield None
            return
        try:
            yield self._commits
        finally:
            self._commits.end_leading()
