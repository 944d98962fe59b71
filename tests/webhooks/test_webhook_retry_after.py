"""The Retry-After header."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taquba_workflow_sync.webhooks.retry_after import MAX_RETRY_AFTER_S, parse_retry_after

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("000120", 120.0),
        ("3600", 3600.0),
        ("3601", 3600.0),
        ("9" * 5000, 3600.0),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 13:00:30 +0100", 30.0),
        ("Sun, 22 Nov 2026 12:00:30 -0000", 30.0),
        ("Sunday, 22-Nov-26 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("Mon, 23 Nov 2026 12:00:00 GMT", MAX_RETRY_AFTER_S),
        ("Sun Nov 22 12:00:30 2026", 30.0),
    ],
)
def test_both_forms_are_seconds_between_none_and_an_hour(value: str, seconds: float) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize("value", [None, "", "soon", "-1", "1.5", "1e3", "Sun, 99 Nov 2026 12:00:00 GMT", "\u0661"])
def test_what_makes_no_sense_is_none(value: str | None) -> None:
    assert parse_retry_after(value, NOW) is None


@settings(deadline=None)  # a busy machine is no failure
@given(st.text() | st.text(alphabet="0123456789 ,:-+GMTSunNov"))
def test_no_value_raises_or_leaves_the_bounds(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_S


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(0, 3600))
def test_a_date_means_the_time_until_then(seconds: int) -> None:
    assert parse_retry_after(format_datetime(NOW + timedelta(seconds=seconds), usegmt=True), NOW) == seconds
