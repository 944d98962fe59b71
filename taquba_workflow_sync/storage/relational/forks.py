"""What every open store does around a fork, and when the interpreter exits: the engine's one module-level state."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable

_log = logging.getLogger(__name__)


class ForkGuard:
    """What a store does around a fork; each of its methods can be called again if it was interrupted."""

    def before_fork(self) -> None:
        """End the clerk, shut the gate and close every connection."""

    def after_fork_in_parent(self) -> None:
        """Open the gate, and have what waits committed."""

    def after_fork_in_child(self) -> None:
        """Forget everything that belongs to the parent."""

    def close_at_exit(self) -> None:
        """Close what nobody closed."""


class _Forks:
    """The stores that are open, and those that a fork under way has stopped."""

    def __init__(self) -> None:
        self.open: weakref.WeakSet[ForkGuard] = weakref.WeakSet()
        self.stopped: list[ForkGuard] = []
        # Two threads that fork at once would open each other's gates.
        self.one = threading.Lock()


# os.register_at_fork cannot unregister, so the hooks look here.
_forks = _Forks()


def guard_forks_of(store: ForkGuard) -> None:
    """Have ``store`` told of every fork from now on, until it is garbage or says otherwise."""
    _forks.open.add(store)


def forget(store: ForkGuard) -> None:
    """Undo :func:`guard_forks_of`."""
    _forks.open.discard(store)


def _insist(step: Callable[[], None]) -> None:
    """Do a step to its end. What a hook raises, Python prints, and forks all the same: with connections open.

    What a signal handler raises in the forking thread is raised again once all is done, to be printed then.
    """
    raised: BaseException | None = None
    while True:
        try:
            step()
            break
        except BaseException as error:
            if raised is not None and type(error) is type(raised) and isinstance(error, Exception):
                break  # the step itself fails, and would again
            raised = error
    if raised is not None:
        raise raised


def _before() -> None:
    _forks.one.acquire()
    for store in sorted(_forks.open, key=id):
        _forks.stopped.append(store)
        _insist(store.before_fork)


def _in_parent() -> None:
    # A store opened or closed by another thread meanwhile was not stopped, so only those that were go on.
    stores = list(_forks.stopped)
    _forks.stopped.clear()
    for store in stores:
        _insist(store.after_fork_in_parent)
    _forks.one.release()


def _in_child() -> None:
    _forks.stopped.clear()
    _forks.one = threading.Lock()
    for store in list(_forks.open):
        store.after_fork_in_child()


def _at_exit() -> None:
    # Dispatchers registered their own exits later, so they have ended by now. Unclosed, a store would leave its lock
    # file to be cleared away by others, and Python warns of each connection.
    for store in list(_forks.open):
        try:
            store.close_at_exit()
        except Exception:
            _log.exception("a store could not be closed at exit")


atexit.register(_at_exit)

os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
