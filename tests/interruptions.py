"""What a signal handler may raise in a call, at a random instant or at each one; and who is not to suffer of it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

_T = TypeVar("_T")
_STORM_S = 5.0
_STALL_S = 20.0
#: A storm of less proves nothing; on a busy machine it takes longer than it was told.
_LEAST = 60
_LONGEST_S = 80.0
#: How often one call is interrupted at most: what catches it is interrupted, too, and must not be without end.
_HITS_OF_A_CALL = 2


class Interruption(BaseException):
    """As KeyboardInterrupt."""


class Limit(Exception):
    """As a job runner's time limit."""


class _Injection:
    """Raises before the n-th step of this thread in some files, counted over all its frames."""

    def __init__(self, at: int, places: tuple[str, ...]) -> None:
        self.at = at
        self.steps = 0
        self.where = ""
        self._places = places

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        if not any(place in frame.f_code.co_filename for place in self._places):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "opcode":
            self.steps += 1
            if self.steps == self.at:
                self.where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
                raise Limit(self.where) if self.at % 2 else Interruption(self.where)
        return self._step


def inject(call: Callable[[], _T], at: int, *places: str) -> tuple[int, _T | None]:
    """Make a call with an exception before its ``at``-th step in the files that have one of ``places`` in their path.

    Returns to how many steps it came, ``at`` of them at most before the exception, and what the call returned, if it
    did: the exception may come in vain.
    """
    injection = _Injection(at, places)
    answer = None
    try:
        sys.settrace(injection)
        try:
            answer = call()
        finally:
            sys.settrace(None)
    except (Limit, Interruption) as error:
        assert error.args == (injection.where,)
    return injection.steps, answer


class Storm:
    """Raises in the main thread after 50 microseconds to 3 ms of a call, and perhaps again and again."""

    def __init__(self, seed: int) -> None:
        self.hits = 0
        self._chance = random.Random(seed)
        self._is_armed = False
        self._left = 0
        signal.signal(signal.SIGALRM, self._raise)

    def _raise(self, *_: object) -> None:
        if self._is_armed and self._left:
            self.hits += 1
            self._left -= 1
            raise Limit if self._chance.random() < 0.5 else Interruption

    def _arm(self) -> None:
        again = self._chance.uniform(5e-5, 3e-3) if self._chance.random() < 0.5 else 0
        self._left = _HITS_OF_A_CALL
        self._is_armed = True
        signal.setitimer(signal.ITIMER_REAL, self._chance.uniform(5e-5, 3e-3), again)

    def _disarm(self) -> None:
        self._is_armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def strikes(self, call: Callable[[], object]) -> BaseException | None:
        """Make a call in the middle of it; returns what came of it, None if it returned."""
        raised: BaseException | None = None
        try:
            try:
                try:
                    self._arm()
                    call()
                finally:
                    self._disarm()
            except BaseException:
                self._disarm()
                raise
        except BaseException as error:
            raised = error
        self._disarm()
        return raised


class Callers:
    """Threads that call, one time after the other, while the main thread does so in a storm.

    A caller that waits for longer than the limit ends the program with status 3. ``call`` gets its caller's name and
    the number of the call, and returns what was acknowledged.
    """

    def __init__(self, call: Callable[[str, int], str]) -> None:
        self.acknowledged: list[str] = []
        self._call = call
        self._is_over = False
        self._errors: list[str] = []
        self._began: dict[str, float] = {}

    def weather(self, seconds: float) -> dict[str, Any]:
        """Let the storm blow so long; returns its figures."""
        storm = Storm(1)
        threads = [threading.Thread(target=self._work, args=(f"t{n}",), daemon=True) for n in range(3)]
        threads.append(threading.Thread(target=self._watch, daemon=True))
        for thread in threads:
            thread.start()
        began = time.monotonic()
        number = raised = 0
        others: list[str] = []
        while (lasted := time.monotonic() - began) < _LONGEST_S and (
            lasted < seconds or min(raised, len(self.acknowledged)) < _LEAST
        ):
            number += 1
            match storm.strikes(lambda: self._make("main", number)):  # noqa: B023
                case None:
                    pass
                case Limit() | Interruption():
                    raised += 1
                case error:
                    others.append(repr(error))
        self._is_over = True
        for thread in threads:
            thread.join(_STALL_S)
        return {
            "hits": storm.hits,
            "raised": raised,
            "acknowledged": len(self.acknowledged),
            "stuck": [thread.name for thread in threads if thread.is_alive()],
            "errors": self._errors[:5],
            "others in main": others[:5],
        }

    def _make(self, name: str, number: int) -> None:
        self._began[name] = time.monotonic()
        try:
            self.acknowledged.append(self._call(name, number))
        finally:
            self._began.pop(name, None)

    def _work(self, name: str) -> None:
        number = 0
        while not self._is_over:
            number += 1
            try:
                self._make(name, number)
            except BaseException as error:
                self._errors.append(f"{name}: {error!r}")

    def _watch(self) -> None:
        while not self._is_over:
            for name, began in list(self._began.items()):
                if time.monotonic() - began > _STALL_S:
                    print(f"{name} was never answered", flush=True)
                    os._exit(3)
            threading.Event().wait(0.2)


def assert_weathers(program: str, store: Path) -> None:
    """Run a module that makes a storm over a store, and prints its figures as JSON; nothing may be lost in it."""
    done = subprocess.run(
        [sys.executable, "-m", program, str(store), str(_STORM_S)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert figures["raised"] > 50 and figures["acknowledged"] > 50, figures
    for nothing in ("lost", "doubled", "stuck", "errors", "others in main"):
        assert not figures[nothing], figures
