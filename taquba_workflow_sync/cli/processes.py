"""Several worker processes as one: begun afresh, begun again when they die, ended together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import click

from taquba_workflow_sync.cli.exit_codes import DONE, ERROR, NEEDS_HUMAN
from taquba_workflow_sync.cli.notify import Listener, notify
from taquba_workflow_sync.cli.stopping import Stop

#: Set for each of them: the process without which it ends.
SUPERVISOR: Final = "TAQUBA_SUPERVISOR"
#: Set for each of them: the descriptor for its answer. Its standard output is the user's, who may print there.
ANSWER: Final = "TAQUBA_ANSWER"
#: Which store the arguments of their supervisor named, where that is a URL: everybody sees a process's arguments.
GIVEN_STORE: Final = "TAQUBA_GIVEN_STORE"

_COMMAND: Final = (sys.executable, "-m", "taquba_workflow_sync", "worker")
_TICK: Final = 0.05
#: A process that dies is begun again after this, twice as long each time; one that lived for long begins anew.
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
_LONG_LIFE: Final = 60.0
#: What a process is given beyond its grace before it is killed.
_PATIENCE: Final = 5.0
_FINE: Final = (DONE, NEEDS_HUMAN)


class Ended(NamedTuple):
    """How the processes ended: the exit code of all of them, and the counts of each, the last to come last."""

    code: int
    counts: list[dict[str, Any]]


def supervise(
    arguments: Sequence[str],
    many: int,
    stop: Stop,
    *,
    grace: float | None,
    deadline: float | None,
    max_runs: int | None = None,
    changed: Callable[[], bool] | None = None,
    store: str | None = None,
) -> Ended:
    """Run ``many`` processes of ``worker`` with the same arguments until they have ended, or it is told to stop.

    What dies is begun again, whatever its exit code; what dies before it was ever ready ends all of them. They end at
    ``deadline`` (monotonic), and once ``max_runs`` runs have ended in all of them. ``changed`` says that they are to be
    ended and begun anew, which moves neither bound. ``store``: the store that each is given, in its environment.
    """
    pause = threading.Event()
    team: list[_Member] = []
    counts: list[dict[str, Any]] = []
    ended_before = 0
    failed: int | None = None

    def is_late() -> bool:
        return deadline is not None and time.monotonic() >= deadline

    def is_enough() -> bool:
        return max_runs is not None and ended_before + sum(member.ended_runs for member in team) >= max_runs

    # A second signal must not leave them behind.
    with stop.by_signals(at_once=lambda: _end_at_once(team)):
        while True:
            team[:] = [_Member(arguments, deadline, counts, store) for _ in range(many)]
            is_ready = False
            try:
                while not (stop.is_asked or is_enough() or (changed is not None and changed())):
                    may_begin = not is_late()
                    for member in team:
                        member.look(may_begin=may_begin)
                    if not is_ready and all(member.is_ready for member in team):
                        is_ready = True
                        notify("READY=1")
                    failed = next((member.code for member in team if member.code not in (None, *_FINE)), None)
                    # Where a change has them begin anew, what cannot begin waits for one.
                    has_ended = all(member.code is not None for member in team)
                    if (has_ended and (changed is None or not may_begin)) or (failed is not None and changed is None):
                        break
                    pause.wait(_TICK)
            finally:
                if stop.is_asked:
                    notify("STOPPING=1")
                _end(team, grace)
            if stop.is_asked or changed is None or is_late() or is_enough():
                break
            ended_before += sum(member.ended_runs for member in team)
            click.echo("a file has changed: the worker begins anew", err=True)
    if failed is not None and not stop.is_asked:
        return Ended(failed if failed > 0 else ERROR, counts)
    needs_human = any(member.code == NEEDS_HUMAN for member in team)
    return Ended(NEEDS_HUMAN if needs_human else DONE, counts)


class Reports:
    """What one of the processes tells its supervisor; nobody else asks for it."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._ended_runs = 0

    @property
    def are_wanted(self) -> bool:
        """Whether there is a supervisor."""
        return self._descriptor is not None

    def ended_runs(self, many: int) -> None:
        """Tell how many runs have ended here, if that is news."""
        if many != self._ended_runs:
            self._ended_runs = many
            self._tell({"ended_runs": many})

    def end(self, counts: Mapping[str, Any], *, is_done: bool) -> None:
        """Tell that this process ends: with what it did, and whether it does because nothing is left to do."""
        self._tell({"counts": counts, "is_done": is_done})

    def _tell(self, report: dict[str, Any]) -> None:
        if self._descriptor is not None:
            with suppress(OSError):  # it has gone, which its process sees by itself
                os.write(self._descriptor, json.dumps(report).encode() + b"\n")


class _Member:
    """One of the processes, over all its lives."""

    def __init__(
        self,
        arguments: Sequence[str],
        deadline: float | None,
        counts: list[dict[str, Any]],
        store: str | None = None,
    ) -> None:
        self._arguments = arguments
        self._store = {} if store is None else {GIVEN_STORE: store}
        self._deadline = deadline
        self._counts = counts
        self._listener = Listener()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._began = 0.0
        self._wait = _FIRST_WAIT
        self._not_before = 0.0
        self._is_done = False
        self._ended_by_life: list[int] = []
        self.is_ready = False
        #: How it ended for good.
        self.code: int | None = None

    @property
    def ended_runs(self) -> int:
        """How many runs have ended in it."""
        return sum(self._ended_by_life)

    def look(self, *, may_begin: bool) -> None:
        """See whether it has ended; begin it, or begin it again, when its time has come."""
        self.is_ready = self.is_ready or self._listener.hears_ready()
        if self.code is not None:
            return
        if self._process is None:
            if not may_begin:
                self._end_with(DONE)
            elif time.monotonic() >= self._not_before:
                self._begin()
            return
        code = self._process.poll()
        if code is None:
            return
        assert self._reader is not None
        self._reader.join(_PATIENCE)  # what its steps have started may hold the pipe open
        self.is_ready = self.is_ready or self._listener.hears_ready()  # it may have said so, and died, since the look
        if self._is_done or not may_begin:
            self._end_with(code)
        elif not self.is_ready:
            click.echo(f"process {self._process.pid} {_how(code)} before it was ready", err=True)
            self._end_with(ERROR if code in _FINE else code)
        else:
            self._begin_again(self._process.pid, code)

    def _begin_again(self, pid: int, code: int) -> None:
        self._wait = _FIRST_WAIT if time.monotonic() - self._began >= _LONG_LIFE else self._wait
        click.echo(f"process {pid} {_how(code)}; another one begins in {self._wait:g} s", err=True)
        self._process = None
        self._not_before = time.monotonic() + self._wait
        self._wait = min(self._wait * 2, _LONGEST_WAIT)

    def _begin(self) -> None:
        command = [*_COMMAND, *self._arguments]
        if self._deadline is not None:
            command += ["--max-runtime", f"{max(self._deadline - time.monotonic(), 0.0):.6f}s"]
        # In a group of its own: a Ctrl-C of the terminal reaches the supervisor alone, and so each process once.
        answers, answer = os.pipe()
        try:
            self._process = subprocess.Popen(
                command,
                env={
                    **os.environ,
                    SUPERVISOR: str(os.getpid()),
                    ANSWER: str(answer),
                    **self._store,
                    **self._listener.environment,
                },
                stdin=subprocess.DEVNULL,
                pass_fds=(answer,),
                start_new_session=True,
            )
        except BaseException:
            os.close(answers)
            raise
        finally:
            os.close(answer)
        self._began = time.monotonic()
        self._ended_by_life.append(0)
        self._reader = threading.Thread(target=self._read, args=(answers,), daemon=True)
        self._reader.start()

    def _read(self, answers: int) -> None:
        with open(answers, "rb") as pipe:
            for line in pipe:
                if not line.endswith(b"\n"):
                    return  # it was killed in the middle
                report = json.loads(line)
                if "ended_runs" in report:
                    self._ended_by_life[-1] = report["ended_runs"]
                    continue
                self._is_done = report["is_done"]
                self._counts.append(report["counts"])

    def _end_with(self, code: int) -> None:
        self.code = code
        self._listener.close()

    def forget(self) -> None:
        """Leave nothing of it behind."""
        self._listener.close()

    def tell(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


def _how(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"has died with exit code {code}"


def _tell(team: Sequence[_Member], number: int) -> None:
    for member in team:
        member.tell(number)


def _end_at_once(team: Sequence[_Member]) -> None:
    _tell(team, signal.SIGKILL)
    for member in team:
        member.forget()


def _end(team: Sequence[_Member], grace: float | None) -> None:
    """Ask all of them to end, and wait until they have."""
    _tell(team, signal.SIGTERM)
    pause = threading.Event()
    limit = None if grace is None else time.monotonic() + grace + _PATIENCE
    while any(member.code is None for member in team):
        for member in team:
            member.look(may_begin=False)
        if limit is not None and time.monotonic() >= limit:
            _tell(team, signal.SIGKILL)
        pause.wait(_TICK)
