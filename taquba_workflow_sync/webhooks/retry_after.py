"""``Retry-After`` as a number of seconds."""

from __future__ import annotations

from datetime import UTC, datetime

#: An hour: a receiver may slow a delivery down, it may not park it for a week.
MAX_RETRY_AFTER_S = 3600.0

#: 9 digits are 31 years. Longer ones need no arithmetic (and int() refuses 4,300 of them).
_MOST_DIGITS = 9


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds to wait from ``now``, between 0 and an hour; None if the value is absent or makes no sense.

    Both forms of RFC 9110, section 10.2.3: a whole number of seconds, or an HTTP date. A date in the past means 0.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        digits = text.lstrip("0")
        return MAX_RETRY_AFTER_S if len(digits) > _MOST_DIGITS else min(float(digits or 0), MAX_RETRY_AFTER_S)
    date = _http_date(text)
    return None if date is None else min(max((date - now).total_seconds(), 0.0), MAX_RETRY_AFTER_S)


def _http_date(text: str) -> datetime | None:
    from email.utils import parsedate_to_datetime  # here, where one answer in many needs it: it imports slowly

    try:
        date = parsedate_to_datetime(text)
        # HTTP dates are in GMT; "-0000" parses to a naive datetime, which cannot be compared with now.
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        # The parser raises any of these, by the kind of rubbish.
        return None
