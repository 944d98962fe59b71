"""Worker processes on a small volume, below whom operations fail on command, and their logs."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults import storm
from tests.faults.disk.volume import Volume
from tests.faults.figures import Figures
from tests.faults.interpose import Recorder
from tests.faults.journal import Event, Journal, read
from tests.faults.lab import open_queue, register_hook
from tests.processes.harness import Child
from tests.support import PATIENCE, wait_until

#: What persists for a while, and then is over.
TROUBLES: dict[str, dict[str, Any]] = {
    "the disk is full": {"operations": "write", "suffix": "-wal", "fails": errno.ENOSPC},
    "the quota is used up": {"operations": "write", "suffix": "-wal", "fails": errno.EDQUOT},
    "nothing can be synced": {"operations": "fsync", "suffix": "-wal", "fails": errno.EIO},
    "syncs fail after the data is out": {"operations": "fsync", "suffix": "-wal", "fails": errno.EIO, "after": True},
    "the disk is read-only": {"operations": "open write ftruncate unlink mkdir", "fails": errno.EROFS},
    "everything fails": {"operations": "open read write fsync ftruncate unlink", "fails": errno.EIO},
}


_FAILURES = re.compile(r"failed \((\d+) in a row\)")


class Plant:
    """A store on the small volume, workers below whom operations fail on command, and their logs."""

    def __init__(self, volume: Volume, directory: Path) -> None:
        self.volume = volume
        self.root = volume.place.resolve() / "store"
        self.directory = directory
        self.journal = Journal(directory / "journal")
        self.recorder = Recorder(directory / "recorder", watched=self.root, data=False)
        self.recorder.pause_recording()
        self.children: list[Child] = []
        with open_queue(self.root) as queue:
            register_hook(queue, self.journal)

    def worker(self, *options: object) -> Child:
        child = self.start("worker", *options)
        child.hear("ready")
        return child

    def start(self, role: str, *options: object) -> Child:
        """Start a process of the laboratory; opening the store may fail while something is wrong with the disk."""
        log = self.directory / f"log-{len(self.children)}"
        words = [log, role, self.root, self.journal.path, *options]
        errors = self.directory / f"stderr-{len(self.children)}"
        child = Child("tests.faults.disk.talkative", words, errors=errors, environment=self.recorder.environment())
        self.children.append(child)
        return child

    def log(self, worker: Child) -> str:
        return (self.directory / f"log-{self.children.index(worker)}").read_text()

    def failures(self, worker: Child) -> int:
        """Return how often in a row the dispatcher has failed so far, as it last said."""
        found = _FAILURES.findall(self.log(worker))
        return int(found[-1]) if found else 0

    def has_failed(self, worker: Child, times: int) -> None:
        wait_until(lambda: self.failures(worker) >= times, f"{times} failures of the dispatcher", 2 * PATIENCE)

    def kill(self, worker: Child) -> None:
        self.journal.note("killing", target=worker.pid)
        worker.signal(signal.SIGKILL)
        worker.process.wait()

    def began(self, run: str, step: int) -> None:
        wait_until(lambda: self.executions()[run, step], f"step {step} of {run}")

    def executions(self) -> Counter[tuple[str, int]]:
        events = read(self.journal.path)
        return Counter((event["run"], event["step"]) for event in events if event["event"] == "begin")

    def settle(self) -> Figures:
        """Stop everybody, do what is left, and look at every invariant."""
        for child in self.children:
            if child.process.poll() is None:
                child.stops()
        figures = storm.settle(self.root, self.journal, part="disk")
        check_repetitions(read(self.journal.path), figures)
        return figures

    def close(self) -> None:
        self.recorder.clear()
        for child in self.children:
            child.destroy()
        self.journal.close()
        self.recorder.close()


def check_repetitions(events: Sequence[Event], figures: Figures) -> None:
    """What a step came to is stored however long that takes: only a kill, or the step itself, has it run again."""
    killed = {event["target"] for event in events if event["event"] == "killing"}
    came_to: dict[tuple[str, int], Event] = {}
    for event in events:
        if event["event"] == "end":
            came_to[event["job"], event["step"]] = event
        elif event["event"] == "begin":
            before = came_to.get((event["job"], event["step"]))
            holds = before is None or before["outcome"] in ("raise", "fail", "dead") or before["pid"] in killed
            figures.expect("no step is done twice", holds, f"{event} although {before}")


def cpu_seconds(child: Child) -> float:
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
