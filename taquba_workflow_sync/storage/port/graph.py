"""The picture of what a queue's runs go through, as whoever serves it has registered it."""

from __future__ import annotations

from typing import Protocol


class Graphs(Protocol):
    """Graphs of queues, as texts that mean something above."""

    def put_graph(self, queue: str, text: str) -> None:
        """Have a queue's graph be this, in place of an earlier one; writes only what changes."""
        ...

    def graphs(self) -> dict[str, str]:
        """Return the graphs by their queues."""
        ...
