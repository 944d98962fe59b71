"""A clock set by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration


class ManualClock:
    """A clock that stands still until it is advanced; give it to ``Queue.open(clock=...)``.

    Advancing wakes whoever waits, in this process, for something to become due.

    Raises:
        TypeError: ``start`` is no datetime.
        ValueError: ``start`` has no time zone, or is in UTC outside of the years 1 to 9999.
    """

    def __init__(self, start: datetime | None = None) -> None:
        validation.moment_ms(start, "start")
        # In UTC, since a sum in a zone that has summer time is off by an hour where that begins or ends.
        self._now = datetime(2026, 1, 1, tzinfo=UTC) if start is None else start.astimezone(UTC)
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> datetime:
        """Return the time it is set to, in UTC."""
        return self._now

    def advance(self, seconds: Duration) -> None:
        """Move on by ``seconds`` (or a timedelta; negative steps back) and wake whoever waits.

        Raises:
            TypeError: ``seconds`` is neither a number nor a timedelta.
            ValueError: it is not finite, or leads out of the years 1 to 9999. The clock has not moved then.
        """
        if not isinstance(seconds, (int, float, timedelta)) or isinstance(seconds, bool):
            raise TypeError(f"seconds must be seconds (int or float) or a timedelta, not {type(seconds).__name__}")
        with self._lock:
            try:
                self._now += seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
            except (OverflowError, ValueError):  # infinite, not a number, or beyond the calendar
                shown = validation.shown(seconds)
                raise ValueError(
                    f"seconds is {shown}; it must lead from {self._now} into the years 1 to 9999"
                ) from None
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have ``listener`` called after each advance; returns the function that ends it."""
        with self._lock:
            self._listeners.append(listener)

        def stop() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return stop
