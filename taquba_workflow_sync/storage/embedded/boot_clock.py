"""The clock of this boot of the machine, by which delays go."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE_OFFSETS: Final = Path("/proc/self/timens_offsets")


class BootClock:
    """Milliseconds since the machine started, suspended time included: no setting of the wall clock moves them.

    ``boot`` is what tells this start of the machine from all others; 0 where there is no such clock that the
    processes of the machine share.
    """

    def __init__(self) -> None:
        self._clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
        self._offset_ns = 0 if self._clock is None else _namespace_offset_ns()
        self.boot: int = 0 if self._clock is None else _boot_number()

    def now_ms(self) -> int:
        """Return the milliseconds, the same in all processes of this boot; 0 where there is no such clock."""
        if self._clock is None:
            return 0
        return (time.clock_gettime_ns(self._clock) - self._offset_ns) // 1_000_000


def _boot_number() -> int:
    try:
        return int(_BOOT_ID.read_text(encoding="ascii").replace("-", "")[:15], 16)
    except (OSError, ValueError):
        return 0


def _namespace_offset_ns() -> int:
    """Return by how much this process's time namespace is ahead of the machine: containers may have their own."""
    try:
        for line in _NAMESPACE_OFFSETS.read_text(encoding="ascii").splitlines():
            name, seconds, nanoseconds = line.split()
            if name == "boottime":
                return int(seconds) * 1_000_000_000 + int(nanoseconds)
    except (OSError, ValueError):
        pass  # a kernel without time namespaces has one time for all
    return 0
