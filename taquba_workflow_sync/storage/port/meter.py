"""What is counted for those who watch: series that only grow, and what was added to them in each of the last minutes.

Rows that retention removes could not feed totals. Labels are the users' to make: so many of a queue have a series of
their own, and the rest share one.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

#: Labels of one queue that have series of their own; a step without one counts under the empty label.
MOST_LABELS: Final = 100
#: What the others count under.
OTHER_LABEL: Final = "(other)"
#: For how many minutes it is known how much was added in each.
MINUTES: Final = 60
MINUTE_MS: Final = 60_000
#: Upper bounds of a histogram's buckets, in seconds; what is longer is in one more.
BOUNDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    *(300.0, 900.0, 3600.0, 21600.0),
)


class Meter(enum.StrEnum):
    """What a series counts; its ``name`` says of which kind."""

    #: Attempts that ended, by outcome.
    ATTEMPTS = "attempts"
    #: Runs that ended, by terminal status; without a label.
    RUNS = "runs"
    #: How long steps took: a bucket's number, or ``SUM``.
    TOOK = "took"
    #: How long runs waited for their first step: likewise; without a label.
    STARTED = "started"


#: The series of a histogram that sums up, in microseconds.
SUM: Final = "sum"


class Series(NamedTuple):
    """What grows."""

    queue: str
    label: str
    meter: Meter
    name: str


#: How much is added to which series.
Added = Mapping[Series, int]
NOTHING_ADDED: Final[Added] = {}


@dataclass(slots=True)
class Counting:
    """What a commit that settles is to count, too: what came before it, and of each settlement if it is applied.

    ``is_stored`` says afterwards whether it did; not where the outcome is unknown, which may then count twice.
    """

    before: Added
    each: Sequence[Added]
    is_stored: bool = False


class MinuteRow(NamedTuple):
    """What was added to a series of attempts or runs in a minute, which began at ``minute`` minutes after the epoch."""

    minute: int
    series: Series
    added: int


class Meters(Protocol):
    """What is counted, and what a look at the store tells beside."""

    def add_to_meters(self, added: Added) -> None:
        """Add to series, in one commit; labels of a queue beyond the first 100 count as :data:`OTHER_LABEL`."""
        ...

    def read_meters(self) -> dict[Series, int]:
        """Return every series, of one moment; what is damaged is left out."""
        ...

    def recent_minutes(self) -> list[MinuteRow]:
        """Return what was added to attempts and runs in this minute and the 59 before, in order."""
        ...

    def ready_ages_ms(self) -> dict[str, int]:
        """Return for how long, by the store's clock, what is longest ready in each queue has been; none: left out."""
        ...

    def log_bytes(self) -> int:
        """Return how large the log is that is not yet part of the database; 0: the store has none."""
        ...


def bucket_of(seconds: float) -> int:
    """Return the number of the bucket that a duration is in."""
    return bisect_left(BOUNDS, seconds)


def has_minutes(series: Series) -> bool:
    """Whether it is kept how much was added to a series in each minute."""
    return series.meter in (Meter.ATTEMPTS, Meter.RUNS)


def merged(first: Added, *more: Added) -> dict[Series, int]:
    """Return the sum."""
    total = dict(first)
    for each in more:
        for series, added in each.items():
            total[series] = total.get(series, 0) + added
    return total
