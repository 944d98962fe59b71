"""Wall clocks that step by an hour and by a second, and a machine that stands still, under load, in real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.clocks.storm import storm


@pytest.mark.parametrize(("kind", "stops"), [("system", 2), ("user", 0)])
def test_a_wall_clock_that_steps_under_load_takes_nothing_over_and_loses_nothing(
    tmp_path: Path, kind: str, stops: int
) -> None:
    """By the system's clock, delays are neither early nor an hour late; and now and then all processes are stopped."""
    figures = storm(tmp_path, seed=6, kind=kind, steps=10, stops=stops)
    figures.assert_clean()
    assert figures.acknowledged > 0
    assert sum(figures.faults.values()) == 10 + stops
    if kind == "system":
        assert figures.checked["delays are not early"] > 0
