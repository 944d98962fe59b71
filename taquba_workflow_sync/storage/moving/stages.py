"""The instants of a move at which a test may kill it: around each commit."""

from __future__ import annotations

from collections.abc import Callable

#: Told of each instant that is reached.
At = Callable[[str], None]


def reached(at: At | None, name: str) -> None:
    """Tell whoever wants to know."""
    if at is not None:
        at(name)
