"""Whether the source has changed: what ``worker --reload`` looks at."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

_INTERVAL: Final = 0.5
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env"})


class Watch:
    """The Python files below a directory, by their times and sizes; hidden directories are left out."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen = self._look()
        self._next = time.monotonic() + _INTERVAL

    def __call__(self) -> bool:
        """Whether anything has changed since this last said so; looked at twice a second at most."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _INTERVAL
        now = self._look()
        has_changed = now != self._seen
        self._seen = now
        return has_changed

    def _look(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for directory, names, files in os.walk(self._root):
            names[:] = [name for name in names if not name.startswith(".") and name not in _SKIPPED]
            for file in files:
                if file.endswith(".py"):
                    path = os.path.join(directory, file)
                    try:
                        status = os.stat(path)
                    except OSError:
                        continue  # gone between the two looks
                    found[path] = (status.st_mtime_ns, status.st_size)
        return found
