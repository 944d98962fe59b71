"""What a measurement is: figures in sections, and how large a run measures them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Scale:
    """How long and how often things are measured."""

    rounds: int
    # How long one timed batch of steps or submits takes.
    seconds: float
    # Of a latency that takes milliseconds, and of one that takes a second.
    samples: int
    slow_samples: int
    idle_seconds: float
    # Jobs waiting while a turn is timed; the last one is also the backlog for stats and memory.
    waiting: tuple[int, ...]
    turns: int


FULL = Scale(3, 4.0, 300, 20, 10.0, (1_000, 100_000, 1_000_000), 400)
QUICK = Scale(1, 1.0, 40, 3, 3.0, (1_000, 10_000, 100_000), 150)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table: the median of `values`, and what it is compared with."""

    key: str
    what: str
    values: Sequence[float]
    unit: str
    ratio: float | None = None
    against: str = ""

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.values)


@dataclass(slots=True)
class Section:
    """One theme: its figures, and how they were measured."""

    title: str
    how: str
    figures: list[Figure] = field(default_factory=list)

    def add(
        self, key: str, what: str, values: Sequence[float], unit: str, ratio: float | None = None, against: str = ""
    ) -> Figure:
        """Add a figure and return it."""
        figure = Figure(key, what, list(values), unit, ratio, against)
        self.figures.append(figure)
        return figure


@dataclass(frozen=True, slots=True)
class Bench:
    """Where to measure, and at which scale."""

    place: Path
    scale: Scale


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the others lie (the nearest rank)."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]
