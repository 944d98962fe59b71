"""Explicit-state exploration: every state that a small model can reach, breadth first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

_State = TypeVar("_State", bound=Hashable)


class Stranded(Exception):
    """Something waits, and nobody is there who would see to it."""


def explore(start: _State, steps: Callable[[_State], Iterable[_State]], check: Callable[[_State, bool], None]) -> int:
    """Go through every state that can be reached; returns how many.

    ``check`` gets each state, and whether no step leads out of it; it raises :class:`Stranded`.
    """
    seen = {start}
    line = deque([start])
    while line:
        state = line.popleft()
        following = list(steps(state))
        check(state, not following)
        for each in following:
            if each not in seen:
                seen.add(each)
                line.append(each)
    return len(seen)
