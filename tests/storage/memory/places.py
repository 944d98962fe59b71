"""Where stores are: by absolute address, for as long as the test has the object. What a process is to real stores."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from taquba_workflow_sync.errors import StorageError, StoreInUseError
from tests.storage.memory.state import State


class Place:
    """One store: its state, the one lock, and who has it open. Changed under the lock; a look at it needs none."""

    def __init__(self, address: str, state: State | None = None, *, is_copy: bool = False) -> None:
        self.address = address
        self.lock = threading.Lock()
        self.state = State() if state is None else state
        self.commits = 0
        #: The owners that have it open, each with what it does on a commit of anybody.
        self.open_by: dict[str, Callable[[], None]] = {}
        self.is_exclusive = False
        #: Nobody has opened it yet, and its claims are those of another store.
        self.is_copy = is_copy
        self._left = threading.Condition(self.lock)

    def swap(self, state: State) -> bool:
        """Put a new state in the place of the old one; whether it says anything new."""
        if state == self.state:
            return False
        self.state = state
        self.commits += 1
        return True

    def enter(self, owner: str, on_commit: Callable[[], None], *, exclusive: bool, wait_s: float | None) -> None:
        """Have one more handle, or refuse where one insists on being the only one."""
        until = time.monotonic() + (wait_s or 0.0)
        with self.lock:
            while self.is_exclusive or (exclusive and self.open_by):
                left = until - time.monotonic()
                if left <= 0:
                    raise StoreInUseError(f"{self.address} is open in process {os.getpid()}; close it there")
                self._left.wait(left)
            self.is_exclusive = exclusive
            self.open_by[owner] = on_commit

    def leave(self, owner: str) -> None:
        """Have one handle less; its claims stay."""
        with self.lock:
            del self.open_by[owner]
            self.is_exclusive = False
            self._left.notify_all()


class Places:
    """All stores of one test."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, Place] = {}

    def at(self, address: str) -> Place:
        """Return the store at an address, made if need be."""
        key = os.path.abspath(address)
        with self._lock:
            return self._places.setdefault(key, Place(key))

    def copy(self, state: State, address: str) -> None:
        """Put a copy of a state where nothing is yet."""
        key = os.path.abspath(address)
        with self._lock:
            if key in self._places:
                raise StorageError(f"there is a store at {key} already; back up to a new place")
            self._places[key] = Place(key, state, is_copy=True)
