"""The external log: one file outside the store, only ever appended to, by every process of a scenario.

Each event is one JSON object in one ``write`` with O_APPEND, so lines of several processes never mix and stand in the
order in which they happened. A kill between two writes leaves whole lines; a line cut short is an error of the log.

Clients note ``submitting`` (run, plan), then ``acknowledged`` (run, job) or ``unknown`` (run); ``cancelling`` (run),
then ``cancelled``; ``retrying`` (run, job), then ``retried``. Workers note ``begin`` (run, job, step, attempt, max),
``end`` (the same without max; ``outcome``; ``is_set`` of its token), ``hook`` (run, job, termination, status, digest).
Whoever injects faults notes ``killing`` (target) and ``stopping`` (target) before the signal is sent.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class Journal:
    """Appends to the log; usable from any thread, and in forked children."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, event: str, **fields: Any) -> None:
        """Append one event; it is in the file, whatever becomes of this process, when this returns."""
        line = json.dumps({"event": event, "pid": os.getpid(), **fields}, separators=(",", ":")) + "\n"
        data = line.encode()
        written = os.write(self._fd, data)
        assert written == len(data), "the log itself could not be written"

    def close(self) -> None:
        os.close(self._fd)


def read(path: Path) -> list[Event]:
    """Return every event so far, in order; of a line that is just being written, a reader may see the beginning."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
