"""What a signal handler may raise in a call, at a random instant or at each one; and who is not to suffer of it."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

_T = TypeVar("_T")
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
