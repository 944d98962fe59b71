"""A process that makes one call at a time, on command, so that its parent can have any operation below it fail.

Run as ``python -m tests.faults.disk.actor``; see :func:`main` for what it is told and what it says.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taquba_workflow_sync import Queue
from tests.faults.disk.calls import BARE, Act, answer_of, copy, prepare
from tests.faults.lab import open_queue
from tests.processes.harness import say

#: What opens or closes a handle, beside the calls that write through an open one.
LIVES = ("create", "open", "close")


class Actor:
    def __init__(self) -> None:
        self._directory = Path()
        self._name = ""
        self._act: Act | None = None
        self._options: dict[str, Any] = {}
        self._queue: Queue | None = None
        self._call: Callable[[], object] = lambda: None

    def prepare(self, name: str, directory: str, checkpoint_bytes: str) -> None:
        self._name, self._directory = name, Path(directory)
        self._options = {"checkpoint_bytes": int(checkpoint_bytes)}
        if name in LIVES:
            prepare("claim", self._directory / "template")
        else:
            self._act = prepare(name, self._directory / "template")

    def copy(self, place: str) -> None:
        """Have a copy of the prepared store at hand, open unless opening it is what is looked at."""
        root = self._directory / place
        if self._name == "create":
            self._call = lambda: self._open(root)
        elif self._name == "open":
            shutil.copytree(self._directory / "template", root)
            self._call = lambda: self._open(root)
        else:
            queue = self._queue = copy(self._directory / "template", root, **self._options)
            if self._name == "close":
                queue.enqueue(BARE, b"x")
                self._call = queue.close
            else:
                queue.stats(BARE)
                self._call = lambda: self._act(queue)  # type: ignore[misc]

    def _open(self, root: Path) -> None:
        self._queue = open_queue(root, **self._options)

    def act(self) -> str:
        return json.dumps(answer_of(self._call))

    def look(self) -> str:
        assert self._queue is not None
        return json.dumps(answer_of(self._queue.list_queues))

    def act_and_die(self, place: str) -> str:
        """Make the call in a forked process, which lives on until it is told to die, and dies by SIGKILL.

        It has committed before, so that there is a log with something in it; it says ``ready`` once it has, acts on a
        line, says ``answer`` and what came of it, and dies on another.
        """
        if os.fork() == 0:
            self.copy(place)
            assert self._queue is not None
            self._queue.enqueue("other", b"x", job_id="o")
            say("ready")
            os.read(0, 100)
            say("answer", self.act())
            os.read(0, 100)
            os.kill(os.getpid(), signal.SIGKILL)
        os.wait()
        return ""

    def act_in(self, place: str) -> str:
        """Make the call in a store that is there."""
        root = self._directory / place
        with open_queue(root) as queue:
            return json.dumps(answer_of(lambda: self._act and self._act(queue)))

    def close(self) -> str:
        queue, self._queue = self._queue, None
        return json.dumps(answer_of(lambda: queue and queue.close()))


def main() -> None:
    """Answer each line ``method argument ...`` with ``method`` and what came of it, until the input ends."""
    actor = Actor()
    say("ready")
    for line in sys.stdin:
        method, *arguments = line.split()
        say(method, getattr(actor, method)(*arguments) or "")


if __name__ == "__main__":
    main()
