"""The tokens whose work runs in this process, whichever handle they belong to, and the events that tell it to stop.

Process-wide on purpose: a claim whose step runs here must not be taken back by another handle of the same process.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator


class RunningTokens:
    """A set of tokens that is safe to read from any thread without a lock, and starts empty in a forked child."""

    def __init__(self) -> None:
        self._events: dict[str, threading.Event] = {}
        self._bare: weakref.WeakValueDictionary[str, threading.Event] = weakref.WeakValueDictionary()
        self._abandoned: set[str] = set()

    def __contains__(self, token: object) -> bool:
        return token in self._events

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._events))  # a snapshot: other threads add and discard meanwhile

    def __len__(self) -> int:
        return len(self._events)

    def add(self, token: str, event: threading.Event) -> None:
        """A step runs under this token from now on."""
        self._events[token] = event

    def discard(self, token: str) -> None:
        """The step has ended."""
        self._events.pop(token, None)

    def abandon(self, token: str) -> None:
        """The step has ended, and its end could not be stored: the claim is held and nobody works on it."""
        self._abandoned.add(token)
        self.discard(token)

    def was_abandoned(self, token: str) -> bool:
        """Whether :meth:`abandon` was called for it: its attempt counts, unlike that of a claim that never began."""
        return token in self._abandoned

    def watch(self, token: str, event: threading.Event) -> None:
        """Let a cancel in this process reach a bare claim for as long as its event is referenced."""
        self._bare[token] = event

    def cancel(self, token: str) -> None:
        """Set the event of a claim of this process, if it is one."""
        event = self._events.get(token) or self._bare.get(token)
        if event is not None:
            event.set()

    def clear(self) -> None:
        """Forget everything: the threads of a parent do not run in its child."""
        self._events.clear()
        self._abandoned.clear()
        self._bare = weakref.WeakValueDictionary()


RUNNING = RunningTokens()


os.register_at_fork(after_in_child=RUNNING.clear)
