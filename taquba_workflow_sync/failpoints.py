"""Failpoints: the named instants at which a test may kill, fail or hold the program.

A function given to a constructor is called with the name of each point that is reached, ``what:when``. Around a commit
``what`` names the transitions that it makes durable, joined by ``+``; elsewhere it names the part. Without a function
nothing is called, and the user's functions are called directly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

Failpoint = Callable[[str], None]


_P = ParamSpec("_P")


_T = TypeVar("_T")


def between(failpoint: Failpoint | None, what: str, call: Callable[_P, _T]) -> Callable[_P, _T]:
    """Return ``call`` with a failpoint before it, and one after it however it ends; itself without a function."""
    if failpoint is None:
        return call
    reach = failpoint

    def called(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        reach(f"{what}:before")
        try:
            return call(*args, **kwargs)
        finally:
            reach(f"{what}:after")

    return called
