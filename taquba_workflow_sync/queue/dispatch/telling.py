"""The lines about runs, on their way to the log: said in order by one thread, which nobody waits for."""

from __future__ import annotations

import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from taquba_workflow_sync.wakeup import WakeUp

_log = logging.getLogger(__name__)

Line = Callable[[], None]

#: Lines that wait at most: each keeps the exception that it tells of, and with that the step's frames.
_MOST: Final = 1_000


def say(line: Line) -> None:
    """Say a line; a handler of the user's own that raises is told of as logging does, and nothing ends for it."""
    try:
        line()
    except Exception:
        traceback.print_exc()


class Teller:
    """Says the lines that turns leave behind, on a thread that begins with the first of them.

    A handler of the user's own may take as long as it likes: no turn waits for it. What comes faster than it is told,
    is left out beyond a bound, and counted.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines: deque[Line] = deque()
        self._left_out = 0
        self._lock = threading.Lock()
        self._wakeup = WakeUp()
        self._is_over = False
        self._thread: threading.Thread | None = None

    def add(self, line: Line) -> None:
        """Take a line, to be said once it is told to."""
        with self._lock:
            if len(self._lines) < _MOST:
                self._lines.append(line)
            else:
                self._left_out += 1

    def tell(self) -> None:
        """Have what was taken said soon."""
        if not self._lines:
            return
        if self._thread is None:
            self._start()
        self._wakeup.notify()

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError):
                return  # no thread is to be had: tried again with the next turn
            self._thread = thread

    def close(self, timeout: float) -> None:
        """Say what is left, for ``timeout`` seconds at most, and end the thread once it has said its line."""
        self.tell()
        with self._lock:  # a thread that another begins just now is to be ended too
            self._is_over = True
            thread = self._thread
        self._wakeup.notify()
        if thread is not None:
            thread.join(timeout)

    def _run(self) -> None:
        while True:
            self._say_all()
            if self._is_over and not self._lines:
                return
            self._wakeup.wait(None)

    def _say_all(self) -> None:
        while self._lines:
            say(self._lines.popleft())
            with self._lock:
                left_out, self._left_out = self._left_out, 0
            if left_out:
                say(partial(_log.warning, _LEFT_OUT, left_out))


_LEFT_OUT: Final = "%d lines about runs were left out: the handlers of the log take longer than the runs"
