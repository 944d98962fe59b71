"""Other processes: a function of a module, run in a fresh interpreter, with a pipe to talk to it."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 120.0

# What a child runs: its pipe, where the store is, and what else it was given.
Work = Callable[..., None]


class Child:
    """A started process and this side's end of its pipe."""

    def __init__(self, process: SpawnProcess, pipe: Connection) -> None:
        self.process = process
        self.pipe = pipe

    def hear(self, patience: float = PATIENCE_SECONDS) -> Any:
        """Return the next thing the child says. Raises RuntimeError if it says nothing or ends."""
        if not self.pipe.poll(patience):
            raise RuntimeError(f"{self.process.name} said nothing for {patience:.0f} s")
        try:
            return self.pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self.process.name} ended") from None

    def tell(self, what: object) -> None:
        self.pipe.send(what)

    def kill(self) -> int:
        """Kill it as `kill -9` does and return the monotonic time of that, in nanoseconds."""
        at = time.monotonic_ns()
        self.process.kill()
        return at


@contextmanager
def child(work: Work, store: Path | str, *arguments: object) -> Iterator[Child]:
    """Run `work(pipe, store, *arguments)` in a process of its own; it is killed when the block ends.

    `work` is a function of a module, since the child imports it: it is spawned, not forked.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=work, args=(theirs, store, *arguments), name=work.__name__.strip("_"), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Child(process, ours)
    finally:
        process.kill()
        process.join()
        ours.close()
