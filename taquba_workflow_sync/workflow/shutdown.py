"""Signals that end a worker process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def signals_ending(end: Callable[[], None], wanted: bool) -> Iterator[None]:
    """Have SIGTERM and SIGINT call ``end`` while the block runs; it sets a flag, wakes a thread, waits for nothing."""
    if not wanted:
        yield
        return
    before = {each: signal.signal(each, lambda *_: end()) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
