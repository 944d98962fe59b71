"""Where time comes from: every stored time and every comparison reads one clock, once per transaction."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, runtime_checkable

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@runtime_checkable
class Clock(Protocol):
    """What ``Queue.open(clock=...)`` takes: anything that tells the time as an aware UTC ``datetime``."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        ...


class SystemClock:
    """The wall clock."""

    def now(self) -> datetime:
        """Return the wall clock's time in UTC."""
        return datetime.now(UTC)

    def now_ms(self) -> int:
        """Return milliseconds since the epoch without building a ``datetime``."""
        return time.time_ns() // 1_000_000


def clock_reader(clock: Clock) -> Callable[[], int]:
    """Return a function that reads ``clock`` in milliseconds since the epoch."""
    if isinstance(clock, SystemClock):
        return clock.now_ms
    return lambda: to_ms(clock.now())


def to_ms(moment: datetime) -> int:
    """Return ``moment`` in milliseconds since the epoch, rounded down.

    Raises:
        ValueError: ``moment`` has no time zone, so it names no instant.
    """
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no time zone; give an aware datetime, e.g. datetime.now(timezone.utc)")
    return (moment - EPOCH) // _MILLISECOND


FIRST_MS: Final = to_ms(datetime.min.replace(tzinfo=UTC))
LAST_MS: Final = to_ms(datetime.max.replace(tzinfo=UTC))


def from_ms(ms: int) -> datetime:
    """Return the aware UTC ``datetime`` of ``ms`` milliseconds since the epoch, or the nearest that there is.

    A lease or a delay may end after the last day of the calendar; that must not keep a row from being read.
    """
    return EPOCH + timedelta(milliseconds=min(max(ms, FIRST_MS), LAST_MS))


def maybe_from_ms(ms: int | None) -> datetime | None:
    """Return :func:`from_ms` of ``ms``, or None for None."""
    return None if ms is None else from_ms(ms)


def on_advance(clock: Clock, listener: Callable[[], None]) -> Callable[[], None]:
    """Have ``listener`` called when a clock that can tell (it has ``subscribe``) was moved; returns how to end that."""
    subscribe = getattr(clock, "subscribe", None)
    stop: Callable[[], None] = (lambda: None) if subscribe is None else subscribe(listener)
    return stop
