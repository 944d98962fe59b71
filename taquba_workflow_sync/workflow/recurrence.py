"""When a schedule fires: pure functions of its rule and a moment, in milliseconds since the epoch.

Where the clocks change, Debian's rule holds. A cron expression with a ``*`` in its minute or hour follows elapsed time:
it fires whenever the wall clock shows a time that it matches. The times of any other are fixed: those that the clocks
skip fire together, once, at the first moment after, and those that they repeat fire the first time. A change of three
hours or more is none of summer time but a correction, and the new time holds at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Protocol

from taquba_workflow_sync.clock import FIRST_MS, LAST_MS, to_ms
from taquba_workflow_sync.workflow.cron import Crontab

#: What is late by more than this is missed.
GRACE_MS: Final = 60_000
#: How many missed firings are made up for at most.
MOST_MISSED: Final = 1_000
#: Nobody waits for what was missed before that; it bounds the search in a store whose times are damaged.
_LONGEST_MS: Final = 50 * 366 * 86_400_000

_CORRECTION: Final = timedelta(hours=3)
_SECOND: Final = timedelta(seconds=1)
#: Offsets of a zone hold for weeks at least.
_STRIDE: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1)


class Recurrence(Protocol):
    """A rule that names moments."""

    def after(self, ms: int) -> int | None:
        """Return the first moment later than ``ms``; None: there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """A first moment, and one after each interval."""

    first_ms: int
    interval_ms: int

    def after(self, ms: int) -> int | None:
        """Return the first moment later than ``ms``."""
        if ms < self.first_ms:
            return self.first_ms
        return self.first_ms + ((ms - self.first_ms) // self.interval_ms + 1) * self.interval_ms


@dataclass(frozen=True, slots=True)
class Cron:
    """What a cron expression names in a time zone."""

    crontab: Crontab
    zone: tzinfo

    def after(self, ms: int) -> int | None:
        """Return the first moment later than ``ms``."""
        try:
            return self._after(_EPOCH + timedelta(milliseconds=min(max(ms, FIRST_MS), LAST_MS)))
        except OverflowError:  # beyond the calendar
            return None

    def _after(self, at: datetime) -> int | None:
        """Go from one change of the offset to the next, until the first time that matches comes before the next one.

        ``wall`` is what the wall clock showed last, as far as these times are concerned: a time that is fixed is over
        once it was shown, also where the clocks are put back to before it.
        """
        offset = self._offset(at)
        wall = at + offset
        if not self.crontab.is_wildcard:
            wall = max(wall, self._shown_before(at))
        while True:
            match = self.crontab.after(wall)
            if match is None:
                return None
            moment = match - offset
            turn = self._turn(at, moment)
            if turn is None:
                return to_ms(moment.replace(tzinfo=UTC))
            following = self._offset(turn)
            shift = following - offset
            is_fixed = not self.crontab.is_wildcard and abs(shift) < _CORRECTION
            if is_fixed and match < turn + following:  # it lies in what the clocks skip
                return to_ms(turn.replace(tzinfo=UTC))
            wall = turn + (max(offset, following) if is_fixed else following) - _SECOND
            at, offset = turn, following

    def _shown_before(self, at: datetime) -> datetime:
        """Return the last time that the wall clock showed before it was put back lately; what came then is over."""
        turn = self._turn(at - _CORRECTION, at)
        if turn is None:
            return datetime.min
        before, after = self._offset(turn - _SECOND), self._offset(turn)
        return turn + before - _SECOND if timedelta(0) < before - after < _CORRECTION else datetime.min

    def _turn(self, begin: datetime, end: datetime) -> datetime | None:
        """Return the first moment after ``begin``, up to ``end``, from which another offset holds; None: none does."""
        if self.zone is UTC:
            return None
        low, offset = begin.replace(microsecond=0), self._offset(begin)
        end = end.replace(microsecond=0)  # offsets change at whole seconds
        while low < end:
            high = min(low + _STRIDE, end)
            if self._offset(high) != offset:
                while high - low > _SECOND:
                    middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
                    low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
                return high
            low = high
        return None

    def _offset(self, moment: datetime) -> timedelta:
        offset = moment.replace(tzinfo=UTC).astimezone(self.zone).utcoffset()
        assert offset is not None
        return offset


@dataclass(frozen=True, slots=True)
class Between:
    """A rule from a moment on, that moment included, and until another, which is not."""

    rule: Recurrence
    start_ms: int | None
    until_ms: int | None

    def after(self, ms: int) -> int | None:
        """Return the first moment later than ``ms``."""
        found = self.rule.after(ms if self.start_ms is None else max(ms, self.start_ms - 1))
        if found is None or found > LAST_MS or (self.until_ms is not None and found >= self.until_ms):
            return None
        return found


def due(rule: Recurrence, watermark_ms: int, now_ms: int, catch_up: str) -> list[int]:
    """Return the moments after the watermark, and not after now, that are to be fired, in order."""
    begin = max(watermark_ms, now_ms - _LONGEST_MS)
    match catch_up:
        case "all":
            return _latest(rule, begin, now_ms, MOST_MISSED)
        case "none":
            return list(_moments(rule, max(begin, now_ms - GRACE_MS - 1), now_ms))
        case _:
            return _latest(rule, begin, now_ms, 1)


def _latest(rule: Recurrence, begin_ms: int, now_ms: int, most: int) -> list[int]:
    """Return the last moments of a time, at most so many; looks back no further than it has to."""
    span_ms = GRACE_MS
    while True:
        since_ms = max(begin_ms, now_ms - span_ms)
        found = deque(_moments(rule, since_ms, now_ms), maxlen=most)
        if len(found) == most or since_ms == begin_ms:
            return list(found)
        span_ms *= 4


def _moments(rule: Recurrence, after_ms: int, until_ms: int) -> Iterator[int]:
    moment = rule.after(after_ms)
    while moment is not None and moment <= until_ms:
        yield moment
        moment = rule.after(moment)
