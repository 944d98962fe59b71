"""What runs in this process: tokens and the events that tell their work to stop, and which thread is inside a step.

Process-wide on purpose, whichever handle a claim belongs to: a claim whose step runs here must not be taken back by
another handle of the same process, and a step must not wait for ever for what needs its own thread.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from typing import NamedTuple

from taquba_workflow_sync.queue.cancel_token import CancelToken


class Inside(NamedTuple):
    """What the calling thread runs: a step, hook or job of ``queue``, in the store at ``address``."""

    owner: object
    address: str
    queue: str


class RunningTokens:
    """A set of tokens that is safe to read from any thread without a lock, and starts empty in a forked child."""

    def __init__(self) -> None:
        self._events: dict[str, threading.Event] = {}
        self._bare: weakref.WeakValueDictionary[str, threading.Event] = weakref.WeakValueDictionary()
        self._thread = threading.local()

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

    def watch(self, token: str, event: threading.Event) -> None:
        """Let a cancel in this process reach a bare claim for as long as its event is referenced."""
        self._bare[token] = event

    def cancel(self, token: str) -> None:
        """Set the event of a claim of this process, if it is one."""
        event = self._events.get(token) or self._bare.get(token)
        if isinstance(event, CancelToken):
            event.stop("cancelled")
        elif event is not None:
            event.set()

    def mark(self, stack: tuple[Inside, ...]) -> None:
        """Note what the calling thread is inside of from now on; who changes it restores what :meth:`here` said."""
        self._thread.stack = stack

    def here(self) -> tuple[Inside, ...]:
        """Return what the calling thread is inside of, outermost first; empty outside of steps."""
        stack: tuple[Inside, ...] = getattr(self._thread, "stack", ())
        return stack

    def clear(self) -> None:
        """Forget everything: the threads of a parent do not run in its child."""
        self._events.clear()
        self._bare = weakref.WeakValueDictionary()
        self._thread = threading.local()


#: The one piece of module-level state above the engines: os.register_at_fork cannot unregister, and claims of several
#: handles must know of each other.
RUNNING = RunningTokens()
os.register_at_fork(after_in_child=RUNNING.clear)
