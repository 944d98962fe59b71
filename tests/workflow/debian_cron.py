"""What Debian's cron would have run, minute by minute: its loop over a virtual clock, and a matcher of its own.

Written from cron(8) and crontab(5), with nothing of the package or of a library: times are matched as sets, and the
change of an offset is met as cron meets it, as a wall clock that jumps. Where cron would run a job several times for
the minutes that were skipped, the contract has it once.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
#: From here on a jump is a correction, and the new time is used at once.
CORRECTION = timedelta(hours=3)
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


def _values(field: str, place: int) -> set[int]:
    least, most = _RANGES[place]
    names = {3: {name: number for number, name in enumerate(_MONTHS, 1)}, 4: dict(zip(_DAYS, range(7), strict=True))}
    found: set[int] = set()
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        if span == "*":
            first, last = least, most
        else:
            begin, _, end = span.partition("-")
            first = names.get(place, {}).get(begin) if begin.isalpha() else int(begin)  # type: ignore[assignment]
            last = first if not end else names.get(place, {}).get(end) if end.isalpha() else int(end)  # type: ignore[assignment]
        found |= set(range(first, last + 1, int(step or 1)))
    return {value % 7 for value in found} if place == 4 else found


class Job:
    def __init__(self, expression: str) -> None:
        fields = expression.split()
        self.minutes, self.hours, self.days, self.months, self.weekdays = (
            _values(field, place) for place, field in enumerate(fields)
        )
        self.is_wildcard = fields[0].startswith("*") or fields[1].startswith("*")
        self.needs_both_days = fields[2].startswith("*") or fields[4].startswith("*")

    def matches(self, wall: datetime) -> bool:
        on_day, on_weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        is_day = on_day and on_weekday if self.needs_both_days else on_day or on_weekday
        return is_day and wall.month in self.months and wall.hour in self.hours and wall.minute in self.minutes


def firings(expression: str, zone: str, begin: datetime, end: datetime) -> Iterator[datetime]:
    """Every moment after ``begin`` and before ``end``, whole minutes in UTC, at which the job would have run."""
    job, tz = Job(expression), ZoneInfo(zone)

    def wall_at(moment: datetime) -> datetime:
        return moment.astimezone(tz).replace(tzinfo=None)

    # Long before, so that a jump that came just before the begin is behind it as it would have been.
    moment = begin - timedelta(days=2)
    virtual = wall_at(moment)
    while moment < end:
        moment += MINUTE
        wall = wall_at(moment)
        jump = wall - virtual - MINUTE
        if abs(jump) >= CORRECTION:
            virtual = wall - MINUTE
            jump = timedelta(0)
        if jump < timedelta(0):
            runs = job.is_wildcard and job.matches(wall)  # the virtual clock waits until it is caught up with
        elif job.is_wildcard:
            runs, virtual = job.matches(wall), wall
        else:
            runs = False
            while virtual < wall:
                virtual += MINUTE
                runs |= job.matches(virtual)
        if runs and begin < moment < end:
            yield moment.astimezone(UTC)
