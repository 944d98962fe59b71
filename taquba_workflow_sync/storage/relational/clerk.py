"""The thread that commits for callers while no other thread of ours does: begun by a first write, gone when idle.

A caller appends its call to the line and *then* looks whether there is a clerk; the clerk lets go of being one and
*then* looks at the line. Either the one sees the call or the other sees that nobody is there; in the other order, of
either, a caller would be stranded. It is begun with ``_thread``: ``Thread.start`` waits on an Event, which is Python,
and an exception of a signal handler in there would leave a thread that never runs.
"""

from __future__ import annotations

import _thread
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from taquba_workflow_sync.wakeup import WakeUp

_log = logging.getLogger(__name__)

IDLE_S: Final = 1.0
_LOOK: Final = 0.05
# How long the system may take to bury a thread that has ended.
_BURIAL: Final = 0.05
_BURIAL_LOOK: Final = 0.0005


class _Ticket:
    """A clerk that was started and has not arrived: others need not start one, too."""

    __slots__ = ("has_arrived",)

    def __init__(self) -> None:
        self.has_arrived = False


class Clerk:
    """At most one thread that serves a line: ``serve`` commits some, ``has_waiting`` tells whether any is left."""

    def __init__(self, serve: Callable[[], None], has_waiting: Callable[[], bool], idle_s: float = IDLE_S) -> None:
        self._serve = serve
        self._has_waiting = has_waiting
        self._idle_s = idle_s
        #: Held by the clerk for as long as there is one. Nobody else ever takes it.
        self._lives = threading.Lock()
        self._wakeup = WakeUp()
        self._has_ended = WakeUp()
        self._ticket: _Ticket | None = None
        #: Who wants no clerk at the moment: a fork, a close.
        self._kept_away_by: set[str] = set()
        #: The thread, while it lives: what is called from it must not wait for it.
        self.thread: int | None = None
        self._native_id: int | None = None

    @property
    def is_wanted_elsewhere(self) -> bool:
        """Whether it is to end as soon as it can."""
        return bool(self._kept_away_by)

    def wake(self, *, is_late: bool = False) -> bool:
        """Have the line looked at, by a new clerk if there is none; False if none can be started.

        ``is_late``: the caller has waited for a while, so it takes no started thread's word that it will come.
        """
        if self._lives.locked():
            self._wakeup.notify()
            return True
        ticket = self._ticket
        if self._kept_away_by or (ticket is not None and not ticket.has_arrived and not is_late):
            return True  # who kept it away looks at the line afterwards, and so does who is on the way
        ticket = _Ticket()
        try:
            _thread.start_new_thread(self._run, (ticket,))
        except RuntimeError:
            return False  # no more threads, no memory, or the interpreter ends
        self._ticket = ticket
        return True

    def keep_away(self, who: str, patience: float) -> bool:
        """Have no clerk from now on; returns whether the last one was gone within ``patience`` seconds."""
        self._kept_away_by.add(who)
        until = time.monotonic() + patience
        while self._lives.locked():
            self._wakeup.notify()
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._has_ended.wait(min(left, _LOOK))
        self._wait_for_burial()
        return True

    def let_back(self, who: str) -> None:
        """Undo ``keep_away``, and have what came meanwhile seen to."""
        self._kept_away_by.discard(who)
        if self._has_waiting():
            self.wake()

    def _run(self, ticket: _Ticket) -> None:
        while not self._kept_away_by and self._lives.acquire(False):
            ticket.has_arrived = True
            try:
                self.thread, self._native_id = threading.get_ident(), threading.get_native_id()
                self._work()
            except BaseException:
                _log.exception("the thread that commits ends, which it should not; another one takes over")
            finally:
                self.thread = None
                self._lives.release()
                self._has_ended.notify()
            if not self._has_waiting():
                break
        ticket.has_arrived = True

    def _work(self) -> None:
        while not self._kept_away_by:
            if self._has_waiting():
                self._serve()
            elif not self._wakeup.wait(self._idle_s) and not self._has_waiting():
                return

    def _wait_for_burial(self) -> None:
        """Wait until the system has no such thread either: by its count Python warns of a fork with threads."""
        if self._native_id is None:
            return
        path = f"/proc/self/task/{self._native_id}"
        pause, until = WakeUp(), time.monotonic() + _BURIAL
        while os.path.exists(path) and time.monotonic() < until:
            pause.wait(_BURIAL_LOOK)
        self._native_id = None
