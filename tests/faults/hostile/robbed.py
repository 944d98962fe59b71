"""What happens to a worker process whose database is cut, swapped, locked away or removed under it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from taquba_workflow_sync import Queue, TaqubaError, WorkflowClient

ROOT: Final = Path(__file__).resolve().parents[3]
LIMIT: Final = 60.0
NOBODY: Final = 65534


def database(root: Path) -> Path:
    return root / "db" / "cache.db"


def _cut(to: Callable[[int], int], suffix: str = "") -> Callable[[Path, Path], None]:
    def rob(root: Path, _: Path) -> None:
        path = database(root).with_name(f"cache.db{suffix}")
        os.truncate(path, to(path.stat().st_size))

    return rob


def _elsewhere(script: str, *paths: Path) -> None:
    """Run a script in another process: closing a database's descriptor in this one would drop its locks."""
    subprocess.run([sys.executable, "-c", script, *map(str, paths)], check=True, timeout=LIMIT)


def _scribble(suffix: str) -> Callable[[Path, Path], None]:
    def rob(root: Path, _: Path) -> None:
        path = database(root).with_name(f"cache.db{suffix}")
        script = "import os, sys; f = open(sys.argv[1], 'r+b'); f.write(b'\\xa5' * os.path.getsize(sys.argv[1]))"
        _elsewhere(script, path)

    return rob


def _remove(suffix: str) -> Callable[[Path, Path], None]:
    return lambda root, _: database(root).with_name(f"cache.db{suffix}").unlink()


def _replace(root: Path, other: Path) -> None:
    copy = root / "db" / "copy"
    shutil.copyfile(database(other), copy)
    os.rename(copy, database(root))


def _overwrite(root: Path, other: Path) -> None:
    script = "import sys; t = open(sys.argv[1], 'r+b'); t.truncate(t.write(open(sys.argv[2], 'rb').read()))"
    _elsewhere(script, database(root), database(other))


def _swap(root: Path, other: Path) -> None:
    """The whole db directory of another store in place of this one's."""
    os.rename(root / "db", root / "db.away")
    shutil.copytree(other / "db", root / "db")


ROBBERIES: Final[dict[str, Callable[[Path, Path], None]]] = {
    "the database cut to nothing": _cut(lambda size: 0),
    "the database cut in its header": _cut(lambda size: 50),
    "the database cut in a page": _cut(lambda size: size // 2 + 100),
    "the database removed": _remove(""),
    "the database moved away": lambda root, _: os.rename(database(root), root / "db" / "away"),
    "the database replaced by another store's": _replace,
    "the database overwritten with another store's": _overwrite,
    "the database scribbled over": _scribble(""),
    "the db directory swapped": _swap,
    "the db directory removed": lambda root, _: shutil.rmtree(root / "db"),
    "the store moved away": lambda root, _: os.rename(root, root.with_name("away")),
    "the log removed": _remove("-wal"),
    "the log cut to nothing": _cut(lambda size: 0, "-wal"),
    "the log cut in a frame": _cut(lambda size: max(size // 2 - 7, 0), "-wal"),
    "the log scribbled over": _scribble("-wal"),
    "the shared memory scribbled over": _scribble("-shm"),
    "the shared memory removed": _remove("-shm"),
    "the owners directory removed": lambda root, _: shutil.rmtree(root / "owners"),
    "its owner lock removed": lambda root, _: [each.unlink() for each in (root / "owners").iterdir()] and None,
    "the opening lock removed": lambda root, _: (root / "open.lock").unlink(),
    "mode 000": lambda root, _: os.chmod(database(root), 0),
    "mode 0444": lambda root, _: os.chmod(database(root), 0o444),
    "directory mode 0555": lambda root, _: os.chmod(root / "db", 0o555),
}


#: SQLite writes on into a database whose bytes somebody else changes, and cannot know.
UNKNOWABLE: Final = {name for name in ROBBERIES if "scribbled" in name or "cut" in name or "overwritten" in name}


class Worker:
    """A worker process, what it printed, and what it logged."""

    def __init__(self, root: Path, log: Path, *, user: int | None = None) -> None:
        self._log = log
        command = [sys.executable, "-W", "error", "-m", "tests.faults.hostile.worker", str(root)]
        if user is not None:
            command += ["--user", str(user)]
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, bufsize=1
            )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.strip())
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def hear(self, beginning: str) -> str | None:
        """Return the first line that begins so once it is said; None if it ended, or did not say it."""
        deadline = time.monotonic() + LIMIT
        with self._changed:
            while True:
                found = next((line for line in self.lines if line.startswith(beginning)), None)
                if found is not None or time.monotonic() > deadline or not self._reader.is_alive():
                    return found
                self._changed.wait(0.1)

    def ask(self, name: str) -> str | None:
        """Have it submit a run and return how it says that went."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(f"{name}\n")
            self.process.stdin.flush()
        answer = self.hear(f"answer {name} ")
        return None if answer is None else answer.removeprefix(f"answer {name} ")

    def cpu(self) -> float:
        """Return the CPU seconds that it has used."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def destroy(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(LIMIT)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def rob(name: str, directory: Path, *, busy: bool = False, kill: bool = False, user: int | None = None) -> list[str]:
    """Rob a running worker, then look at the store as the next process does; returns what went wrong, in sentences."""
    root, other = directory / "store", directory / "other"
    for each in (root, other):
        with Queue.open(each, durability="relaxed") as queue:
            WorkflowClient(queue).submit_many([])
            queue.enqueue_batch("waiting", [b"x" * 1000] * 300)
    if user is not None:
        for each in (directory, *directory.rglob("*")):
            os.chown(each, user, user)
    worker = Worker(root, directory / "log", user=user)
    try:
        wrong = _rob_running(name, worker, root, other, busy=busy, kill=kill)
        found = _look_again(root, [each for each in ("after-0", "after-1") if f"answer {each} well" in worker.lines])
        # What was written into a file that is gone, or scribbled over, nobody can have back.
        return wrong + [each for each in found if "is not there" not in each or name not in UNKNOWABLE]
    finally:
        worker.destroy()


def _rob_running(name: str, worker: Worker, root: Path, other: Path, *, busy: bool, kill: bool) -> list[str]:
    wrong: list[str] = []
    if worker.hear("ready") is None or worker.ask("before") != "well":
        return [f"the worker never worked: {worker.lines}, {worker.log}"]
    if busy and worker.ask("busy") != "well":
        return [f"the worker never was busy: {worker.lines}"]
    try:
        ROBBERIES[name](root, other)
    except OSError as error:
        return [f"could not rob: {error}"]
    for number in range(2):
        answer = worker.ask(f"after-{number}")
        if answer is None:
            wrong.append(f"the worker ended by itself ({worker.process.poll()}) or hangs: {worker.log[-500:]}")
            return wrong
        if answer.startswith("BAD"):
            wrong.append(f"a submit raised {answer[4:]}")
    if "in a row" in worker.log:
        # A share of one run: a process that is slowed down by others uses less of it, never more.
        began, cpu = time.monotonic(), worker.cpu()
        threading.Event().wait(1.0)
        used, passed = worker.cpu() - cpu, time.monotonic() - began
        if used / passed > 0.5:
            wrong.append(f"it spins: {used:.2f} s of CPU in {passed:.2f} s")
    worker.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
    worker.process.wait(LIMIT)
    if not kill and worker.hear("ended") is None:
        wrong.append(f"it did not end when it was asked to: {worker.log[-500:]}")
    if "Traceback" in worker.log:
        wrong.append(f"a traceback in its log: {worker.log[:3000]}")
    if len(worker.log.splitlines()) > 60:
        wrong.append(f"{len(worker.log.splitlines())} lines in its log")
    return wrong


def _look_again(root: Path, acknowledged: list[str]) -> list[str]:
    """Open what is left, as the next process would; what was acknowledged after the robbery must be there."""
    wrong: list[str] = []
    for _ in range(2):
        try:
            with Queue.open(root, durability="relaxed") as queue:
                for call in (
                    lambda: queue.enqueue("q", b""),
                    lambda: queue.list_jobs("waiting", limit=1000),
                    lambda: queue.stats("waiting"),
                ):
                    with suppress(TaqubaError):
                        call()
                with suppress(TaqubaError):
                    lost = [run_id for run_id in acknowledged if WorkflowClient(queue).status(run_id) is None]
                    wrong += [f"{run_id} was acknowledged and is not there" for run_id in lost]
        except TaqubaError as error:
            if str(root) not in str(error):
                wrong.append(f"the refusal does not name the store: {error}")
            if "backup" not in str(error) and "chmod" not in str(error):
                wrong.append(f"the refusal does not say what to do: {error}")
        except Exception as error:
            wrong.append(f"the next open raised {error!r}")
    return wrong
