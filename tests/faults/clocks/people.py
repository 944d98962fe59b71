"""Worker and client processes of the laboratory whose wall clock steps.

``python -m tests.faults.clocks.people OFFSET system|user WORDS ...``, then as of ``tests.faults.lab``. *system*: the
time functions themselves step; *user*: the clock is an object given to the queue. WORDS are those of the random plans.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults import lab
from tests.faults.clocks.times import SharedClock, SharedOffset, step_system_time
from tests.faults.journal import Journal


class StampedJournal(Journal):
    """Says of each event when it was, by the clock that never steps."""

    def note(self, event: str, **fields: Any) -> None:
        super().note(event, **fields, at=time.monotonic())


def main() -> None:
    path, kind, words = sys.argv[1:4]
    del sys.argv[1:4]
    offset = SharedOffset(Path(path))
    if kind == "system":
        step_system_time(offset)
    else:
        lab.open_queue = partial(lab.open_queue, clock=SharedClock(offset))
    lab.Journal = StampedJournal  # type: ignore[misc]  # what the laboratory's processes write with
    lab.WORDS = tuple(words.split())
    lab.ENDINGS = ("go", "fail", "dead", "cancel")
    lab.main()


if __name__ == "__main__":
    main()
