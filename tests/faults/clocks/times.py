"""Clocks for tests: a wall clock set by hand, one that steps, and one that several processes share through a file."""

from __future__ import annotations

import mmap
import struct
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from taquba_workflow_sync.clock import SystemClock

HOUR = 3_600.0
NOON_MS = 1_750_000_000_000
_OFFSET = struct.Struct("<q")


class Wall(SystemClock):
    """The system's wall clock as somebody sets it by hand."""

    def __init__(self, ms: int = NOON_MS) -> None:
        self.ms = ms

    def now_ms(self) -> int:
        return self.ms

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.ms / 1000, UTC)


class SteppingWall(SystemClock):
    """The system's wall clock, as far ahead as somebody has set it."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now_ms(self) -> int:
        return super().now_ms() + round(self.ahead_s * 1000)


class SharedOffset:
    """How far ahead the wall clock of every process is that has this file open, in nanoseconds."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_OFFSET.pack(0))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _OFFSET.size)

    def set(self, seconds: float) -> None:
        self._map[:] = _OFFSET.pack(round(seconds * 1e9))

    def ns(self) -> int:
        value: int = _OFFSET.unpack(self._map[:])[0]
        return value

    def close(self) -> None:
        self._map.close()


class SharedClock:
    """A clock of the user's own, of which the library knows nothing but ``now``."""

    def __init__(self, offset: SharedOffset) -> None:
        self._offset = offset

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(microseconds=self._offset.ns() // 1000)


def step_system_time(offset: SharedOffset) -> None:
    """Have this process read a wall clock that is ahead by ``offset``: the kernel's is everybody's."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + offset.ns() / 1e9
    time.time_ns = lambda: real_ns() + offset.ns()
