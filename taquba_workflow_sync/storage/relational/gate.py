"""A gate that threads pass while they use a connection, which shuts when the process forks; and a room for a few.

Neither has a lock of its own. A signal handler may raise anything between any two steps of the main thread, and may
itself come here while that thread is inside: a lock taken by the one would be waited for by the other for ever, and a
Condition that is interrupted in its wait is left released twice. What is shared is changed by single calls into C, each
thread sleeps on a lock that only it waits for, and a wake-up that is lost costs a tenth of a second.

Whoever enters brings a token of its own and leaves with it in a ``finally`` around the entry itself, whether it was
entered or not. ``leave`` is a function of C, called from that ``finally`` directly: a handler runs before a Python
function's first step, but not before a call into C, and a count that stayed too high would hang every fork and close.
"""

from __future__ import annotations

import time
from collections import deque
from threading import get_ident
from typing import Final, NamedTuple

from taquba_workflow_sync.wakeup import WakeUp

_LOST_WAKE_UP: Final = 0.1


class Gate:
    """Knows which threads are inside, and keeps new ones out while it is shut."""

    def __init__(self) -> None:
        self._inside: dict[object, int] = {}
        #: Be outside, whatever was before: ``leave(token, None)``, and then ``tell()``.
        self.leave: Final = self._inside.pop
        #: One for each ``shut`` that was not yet answered.
        self._shut: list[WakeUp] = []
        self._waiting: deque[WakeUp] = deque()

    def enter(self, token: object) -> None:
        """Wait until the gate is open; a thread that is inside already, in a signal handler, does not wait."""
        me = get_ident()
        # Inside first, and then a look at the gate; who shuts it looks the other way round. One of the two is seen.
        self._inside[token] = me
        while self._shut and list(self._inside.values()).count(me) == 1:
            self.leave(token, None)
            self.tell()
            wakeup = WakeUp()
            self._waiting.append(wakeup)
            if self._shut:
                wakeup.wait(_LOST_WAKE_UP)
            self._inside[token] = me

    def tell(self) -> None:
        """Wake who waits for those inside to leave."""
        for shutting in tuple(self._shut):
            shutting.notify()

    def shut(self, timeout: float = float("inf")) -> None:
        """Keep new calls out and wait, at most ``timeout`` seconds, until those of other threads have left."""
        me = {get_ident()}
        until = time.monotonic() + timeout
        wakeup = WakeUp()
        self._shut.append(wakeup)
        while set(self._inside.values()) - me and time.monotonic() < until:
            wakeup.wait(_LOST_WAKE_UP)

    def open(self) -> None:
        """Let calls in again, once every ``shut`` has been answered."""
        self._shut.pop()
        while not self._shut:
            try:
                self._waiting.popleft().notify()
            except IndexError:
                return


class _Place(NamedTuple):
    """Where somebody stands who has come, and how to wake them."""

    thread: int
    wakeup: WakeUp


class Room:
    """Lets in at most ``limit`` at once, in the order in which they came."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line: dict[object, _Place] = {}
        #: Give up the place, or the wait for one: ``leave(token, None)``, and then ``tell()``.
        self.leave: Final = self._line.pop

    def enter(self, token: object) -> None:
        """Wait for a place."""
        wakeup = WakeUp()
        self._line[token] = _Place(get_ident(), wakeup)
        while token not in tuple(self._line)[: self._limit]:
            wakeup.wait(_LOST_WAKE_UP)

    def enter_if_first(self, token: object) -> bool:
        """Take a place if there is one; whether there was. Of those who come at once, the first has it."""
        self._line[token] = _Place(get_ident(), WakeUp())
        if token in tuple(self._line)[: self._limit]:
            return True
        self.leave(token, None)
        return False

    def tell(self) -> None:
        """Wake those who have come to a place."""
        if len(self._line) >= self._limit:
            for place in tuple(self._line.values())[: self._limit]:
                place.wakeup.notify()

    def holds(self, thread: int) -> bool:
        """Whether a thread is in the room, or waits for a place."""
        return any(place.thread == thread for place in tuple(self._line.values()))
