"""A store opened by a process of its own and used from here, call by call: another process that does as it is told."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from taquba_workflow_sync.clock import Clock
from taquba_workflow_sync.storage.embedded.store import open_store
from taquba_workflow_sync.storage.port.store import Durability, OpenOptions, Store
from tests.processes.harness import ROOT


class Told:
    """A clock that says what it was told last."""

    moment: datetime

    def now(self) -> datetime:
        return self.moment


class Host:
    """A process that opens stores, one after the other; it serves one at a time."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.faults.remote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, *question: object) -> Any:
        """Send a question and return its answer, or raise it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        pickle.dump(question, self.process.stdin)
        self.process.stdin.flush()
        is_answer, value = pickle.load(self.process.stdout)
        if not is_answer:
            raise value
        return value

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        self.process.wait()


class RemoteStore:
    """The port, over a pipe; the clock goes along with each call."""

    def __init__(self, host: Host, place: Path, clock: Clock) -> None:
        self.host = host
        self._clock = clock
        host.ask("open", place, clock.now())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.host.ask(name, self._clock.now(), args, kwargs)

        return call


def opened(host: Host, place: Path, clock: Clock) -> Store:
    """Open a store in another process."""
    return cast(Store, RemoteStore(host, place, clock))


def main() -> None:
    clock = Told()
    store: Store | None = None
    while True:
        try:
            name, *question = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if name == "open":
                place, clock.moment = question
                store = open_store(str(place), OpenOptions(durability=Durability.RELAXED, clock=clock))
                answer = (True, None)
            else:
                clock.moment, args, kwargs = question
                answer = (True, getattr(store, name)(*args, **kwargs))
        except Exception as error:
            answer = (False, error)
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
