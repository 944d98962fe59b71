"""How a handle hears of commits: of this process's at once, of others' by looking, and who commits for everyone."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.lifecycle import Lifecycle
from taquba_workflow_sync.storage.embedded.sqlite_errors import as_not_read
from taquba_workflow_sync.storage.port.changes import Changes, CommitListener, Leader
from taquba_workflow_sync.storage.relational.group_commit import GroupCommit
from taquba_workflow_sync.wakeup import WakeUp

# A look costs 65 to 200 microseconds of CPU, most of it for waking a thread: often while there is something to see,
# seldom otherwise: every 32 ms an idle worker starts what another process submits within 25 ms at the median, and uses
# less than a hundredth of a core.
_LOOK_WHEN_ACTIVE: Final = 0.005
_LOOK_WHEN_IDLE: Final = 0.032
_ACTIVE_FOR: Final = 1.0


class _Version(NamedTuple):
    """How many commits were seen, and how often the clock was moved."""

    commits: int
    moves: int


class ChangeFeed:
    """What one handle's threads are told of commits."""

    def __init__(self, lifecycle: Lifecycle, connections: Connections, commits: GroupCommit) -> None:
        self._lifecycle = lifecycle
        self._connections = connections
        self._commits = commits
        self._latest = 0
        self._moves = 0
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget who listens and sleeps: those are the parent's threads."""
        self._listeners: list[CommitListener] = []
        self._sleeping: dict[WakeUp, None] = {}
        self._active_until = 0.0

    def wait_for_changes(self, since: object, timeout: float, wakeup: WakeUp) -> Changes:
        """Wait for a change; see :meth:`~taquba_workflow_sync.storage.port.changes.ChangeSource.wait_for_changes`."""
        until = time.monotonic() + timeout
        self._sleeping[wakeup] = None
        try:
            while True:
                version = self._look()
                if version != since:
                    return Changes(version, True)
                now = time.monotonic()
                pause = _LOOK_WHEN_ACTIVE if now < self._active_until else _LOOK_WHEN_IDLE
                if now >= until:
                    return Changes(version, False)
                if wakeup.wait(min(until - now, pause)):
                    version = self._look()
                    return Changes(version, version != since)
        finally:
            self._sleeping.pop(wakeup, None)

    def _look(self) -> _Version:
        self._lifecycle.use()
        try:
            commits = self._connections.count_changes()
        except sqlite3.Error as error:
            raise as_not_read(error, self._lifecycle.root) from error
        if commits != self._latest:
            self._latest = commits
            self._active_until = time.monotonic() + _ACTIVE_FOR
        return _Version(commits, self._moves)

    def clock_was_moved(self) -> None:
        """Have everyone who waits look again: other things are due now."""
        self._moves += 1
        for wakeup in tuple(self._sleeping):
            wakeup.notify()

    def committed(self, queues: frozenset[str], ended: frozenset[str]) -> None:
        """Tell the listeners of a commit of this process."""
        for listener in tuple(self._listeners):
            listener(queues, ended)

    @contextmanager
    def on_commit(self, listener: CommitListener) -> Iterator[None]:
        """Have ``listener`` called after each commit of this process while the block runs."""
        self._lifecycle.use()
        self._listeners.append(listener)
        try:
            yield
        finally:
            with suppress(ValueError):  # of the parent, in a forked child
                self._listeners.remove(listener)

    @contextmanager
    def lead(self, on_waiting: Callable[[], None]) -> Iterator[Leader | None]:
        """Have the calling thread commit for everyone while the block runs; None if another does."""
        self._lifecycle.use()
        if not self._commits.begin_leading(on_waiting):
            yield None
            return
        try:
            yield self._commits
        finally:
            self._commits.end_leading()
