"""Durations and moments as people write them: ``50s``, ``1h30m``, ``2026-11-26T03:15``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
#: A century: the most that the store knows of, and that a thread can wait.
_LONGEST: Final = 36_600 * 86_400.0


def seconds_of(text: str) -> float | None:
    """Return a duration like ``50s``, ``10m``, ``1h30m`` in seconds; None for what is none, or is over a century."""
    if text == "0":
        return 0.0
    if not re.fullmatch(f"({_PART.pattern})+", text):
        return None
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return seconds if seconds <= _LONGEST else None


def moment_of(text: str, *, ahead: bool = False) -> datetime:
    """Return a moment: ISO 8601 (local time where it names no zone), or a duration ago, or from now with ``ahead``.

    Raises:
        ValueError, OverflowError: it is none, or none that a calendar has.
    """
    seconds = seconds_of(text)
    if seconds is None:
        return datetime.fromisoformat(text).astimezone()
    return datetime.now(UTC) + (1 if ahead else -1) * timedelta(seconds=seconds)
