"""The store of one application, opened when it is first asked for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from taquba_workflow_sync.queue.queue import Queue


class LazyStore:
    """Opens a store at its first use, in the process that uses it; usable from any thread."""

    def __init__(self, open_store: Callable[[], Queue]) -> None:
        self._open = open_store
        self._queue: Queue | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()

    @property
    def queue(self) -> Queue:
        """The open store.

        Raises:
            RuntimeError, StorageError and the rest: it cannot be opened.
        """
        queue = self._queue
        if queue is not None and not queue.handle.is_closed:
            return queue
        if self._pid != os.getpid():
            # A lock that another thread held when this process was forked off would never be let go of here.
            self._pid, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            if self._queue is None or self._queue.handle.is_closed:
                self._queue = self._open()
            return self._queue

    def close(self) -> None:
        """Close the store if it is open; the next use opens it again."""
        queue = self._queue
        if queue is not None:
            queue.close()
