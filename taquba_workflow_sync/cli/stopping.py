"""How a command is told to end: one signal asks it to, a second one ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from taquba_workflow_sync.cli.exit_codes import INTERRUPTED


class Stop:
    """Whether it is to end. Set by a signal handler, so it is a plain flag, polled and never waited on."""

    def __init__(self) -> None:
        self.is_asked = False

    @contextmanager
    def by_signals(self, at_once: Callable[[], None] | None = None) -> Iterator[None]:
        """Have SIGTERM and SIGINT ask for the end, and a second one end the process, after ``at_once``."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def told(number: int, frame: Any) -> None:
            if self.is_asked:
                if at_once is not None:
                    at_once()
                # Threads of steps cannot be stopped, and Python would wait for them.
                os._exit(INTERRUPTED)
            self.is_asked = True

        before = {each: signal.signal(each, told) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
