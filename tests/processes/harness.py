"""Real processes for tests: each a module of this folder run by its own interpreter, and the log they all write to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]

# Python's own warning about fork with threads; allowed in the fork tests' interpreters only.
FORK_WITH_THREADS = "ignore:This process (pid:DeprecationWarning"
# What Python 3.13 says of a store that a program forgets to close; allowed where forgetting is what is tested.
FORGOTTEN = "ignore:unclosed database:ResourceWarning"


def say(*words: object) -> None:
    """Print one line in a single write, so that threads and forks never mix theirs."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def say_when_ready() -> None:
    """Say so once SIGTERM no longer kills: a runtime that handles signals runs by then."""
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        time.sleep(0.001)
    say("ready")


@dataclass(frozen=True)
class Attempt:
    """One execution of a step, as its runner noted it."""

    run: str
    step: int
    attempt: int
    pid: int


class Witness:
    """A file outside the store, only ever appended to, each line on disk before the next thing happens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, *words: object) -> None:
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode())
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)

    def lines(self, word: str | None = None) -> list[list[str]]:
        """Return what was noted, in order; the lines that begin with ``word``, without it."""
        split = [line.split() for line in self.path.read_text().splitlines()]
        return split if word is None else [words[1:] for words in split if words[0] == word]

    def attempts(self, run: str | None = None) -> list[Attempt]:
        """Return the executions that began, in the order in which they began."""
        began = [Attempt(words[0], int(words[1]), int(words[2]), int(words[3])) for words in self.lines("begin")]
        return [attempt for attempt in began if run in (None, attempt.run)]

    def steps(self, run: str) -> list[int]:
        return [attempt.step for attempt in self.attempts(run)]

    def pids(self) -> dict[int, int]:
        """Return how many executions each process began."""
        counts: dict[int, int] = defaultdict(int)
        for attempt in self.attempts():
            counts[attempt.pid] += 1
        return dict(counts)

    def assert_never_side_by_side(self) -> None:
        """No execution of a step may begin while an earlier one runs in a process that was not yet killed."""
        running: dict[tuple[str, str], str] = {}
        killed: set[str] = set()
        for word, *rest in self.lines():
            if word == "kill":
                killed.add(rest[0])
            elif word == "begin":
                run, step, _, pid = rest[:4]
                owner = running.get((run, step))
                assert owner is None or owner in killed, f"step {step} of {run} ran in {owner} and {pid} at once"
                running[run, step] = pid
            elif word == "end" and running.get((rest[0], rest[1])) == rest[3]:
                del running[rest[0], rest[1]]


class Child:
    """A process that this suite started, its lines of output so far, and its errors."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[object],
        *,
        errors: Path,
        warnings: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        command = [sys.executable, "-W", "error"]
        for each in warnings:
            command += ["-W", each]
        self._errors = errors
        with errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*command, "-m", module if "." in module else f"tests.processes.{module}", *map(str, arguments)],
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                bufsize=1,
                start_new_session=True,
            )
        self.pid = self.process.pid
        self.output: list[str] = []
        self._heard = 0
        self._is_silent = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, name=f"reader-{self.pid}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.output.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._is_silent = True
            self._changed.notify_all()

    @property
    def is_heard(self) -> bool:
        """Whether it, or something that it forked, can still be heard from."""
        return self._reader.is_alive()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def said(self, word: str) -> list[list[str]]:
        """Return the lines so far that begin with ``word``, without it, split."""
        return [line.split()[1:] for line in list(self.output) if line.split()[:1] == [word]]

    def hear(self, beginning: str, limit: float = PATIENCE) -> list[str]:
        """Wait for the next line that begins so, and return the words that follow."""
        deadline = time.monotonic() + limit
        with self._changed:
            while True:
                while self._heard < len(self.output):
                    line = self.output[self._heard]
                    self._heard += 1
                    if (line + " ").startswith(beginning + " "):
                        return line[len(beginning) :].split()
                left = deadline - time.monotonic()
                if self._is_silent or left <= 0:
                    break
                self._changed.wait(left)
        raise AssertionError(f"never said {beginning!r}; said {self.output[-20:]}; errors:\n{self.errors}")

    def tell(self, *words: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def hangs_up(self) -> None:
        """Have it read the end of its input."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, limit: float = PATIENCE) -> int:
        """Wait for its end, and that of every process which shares its output; return how it ended."""
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"did not end in {limit} s; said {self.output[-20:]}; errors:\n{self.errors}"
            ) from None
        self._reader.join(limit)
        assert not self._reader.is_alive(), f"something that it started goes on; said {self.output[-20:]}"
        return code

    def ends_well(self, limit: float = PATIENCE) -> list[str]:
        """Wait for its end, demand exit code 0 and silence on stderr, and return what it printed."""
        code = self.ended(limit)
        assert (code, self.errors) == (0, ""), f"exit {code}; said {self.output[-20:]}; errors:\n{self.errors}"
        return self.output

    def stops(self) -> None:
        """Ask it to drain, as systemd would, and demand that it does."""
        self.signal(signal.SIGTERM)
        self.ends_well()

    def destroy(self) -> None:
        """End it and whatever it forked: it leads a session of its own."""
        if self.process.poll() is None or self._reader.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


class Stage:
    """What one test works with: a store, a witness, and the processes it started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = directory / "store"
        self.witness = Witness(directory / "witness.log")
        self.children: list[Child] = []

    def start(
        self,
        module: str,
        *arguments: object,
        warnings: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        errors = self.directory / f"stderr-{len(self.children)}"
        words = [self.store, self.witness.path, *arguments]
        child = Child(module, words, errors=errors, warnings=warnings, environment=environment)
        self.children.append(child)
        return child

    def worker(self, *options: object) -> Child:
        """Start a worker process and wait until it runs; options as of ``worker.py``."""
        child = self.start("worker", *options)
        child.hear("ready")
        return child

    def client(self, *arguments: object) -> Child:
        """Start a client process; arguments as of ``client.py``."""
        return self.start("client", *arguments)

    def forking(self, scenario: str, *arguments: object) -> Child:
        """Start a scenario of ``forks.py``."""
        return self.start("forks", scenario, *arguments, warnings=[FORK_WITH_THREADS, FORGOTTEN])

    def exiting(self, scenario: str, *arguments: object) -> Child:
        """Start a scenario of ``exits.py``."""
        return self.start("exits", scenario, *arguments, warnings=[FORGOTTEN])

    def kill(self, child: Child) -> None:
        """Kill -9, noted first: what begins elsewhere after the note does not run beside it."""
        self.witness.note("kill", child.pid)
        child.signal(signal.SIGKILL)
        child.process.wait()

    def let_go(self, run: str) -> None:
        """Let the steps of a run that hold on go on."""
        (self.directory / f"go-{run}").touch()

    def began(self, run: str, step: int, attempt: int = 1) -> Attempt:
        """Wait until that attempt runs somewhere."""

        def found() -> list[Attempt]:
            return [each for each in self.witness.attempts(run) if (each.step, each.attempt) == (step, attempt)]

        wait_until(found, f"attempt {attempt} of step {step} of {run}")
        return found()[0]

    def close(self) -> None:
        for child in self.children:
            child.destroy()
        self.witness.close()


def staged(directory: Path) -> Iterator[Stage]:
    stage = Stage(directory)
    try:
        yield stage
    finally:
        stage.close()
