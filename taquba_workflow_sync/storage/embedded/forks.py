"""What every open store does around a fork, and when the interpreter exits."""

from __future__ import annotations

import atexit
import os
import threading
import weakref


class ForkGuard:
    """What a store does around a fork; its methods never raise."""

    def before_fork(self) -> None:
        """Shut the gate and close every connection."""

    def after_fork_in_parent(self) -> None:
        """Open the gate."""

    def after_fork_in_child(self) -> None:
        """Forget everything that belongs to the parent."""

    def close_at_exit(self) -> None:
        """Close what nobody closed."""


# The one piece of module-level state: os.register_at_fork cannot unregister, so the hooks look here.
_open_stores: weakref.WeakSet[ForkGuard] = weakref.WeakSet()


_forking: list[ForkGuard] = []


_one_fork = threading.Lock()


def guard_forks_of(store: ForkGuard) -> None:
    """Have ``store`` told of every fork from now on, until it is garbage or says otherwise."""
    _open_stores.add(store)


def forget(store: ForkGuard) -> None:
    """Undo :func:`guard_forks_of`."""
    _open_stores.discard(store)


def _before() -> None:
    _one_fork.acquire()  # two threads that fork at once would open each other's gates
    stores = sorted(_open_stores, key=id)
    for store in stores:
        store.before_fork()
    _forking.extend(stores)


def _in_parent() -> None:
    # A store opened or closed by another thread meanwhile was not shut, so only those that were are opened.
    stores = list(_forking)
    _forking.clear()
    for store in stores:
        store.after_fork_in_parent()
    _one_fork.release()


def _in_child() -> None:
    _forking.clear()
    _one_fork.release()
    for store in list(_open_stores):
        store.after_fork_in_child()


def _at_exit() -> None:
    # Dispatchers registered their own exits later, so they have ended by now. Unclosed, a store would leave its lock
    # file to be cleared away by others, and Python warns of each connection.
    for store in list(_open_stores):
        store.close_at_exit()


atexit.register(_at_exit)


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
