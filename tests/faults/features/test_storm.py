"""Random kill -9 and SIGSTOP over workers and clients that use the features."""

from __future__ import annotations

from pathlib import Path

from tests.faults.features.storm import storm


def test_a_storm_of_kills_breaks_no_rule_of_a_feature(tmp_path: Path) -> None:
    figures = storm(tmp_path, seed=2, kills=7)
    figures.assert_clean()
    assert figures.faults["SIGKILL"] >= 7 and figures.faults["SIGKILL of all"] == 1
    seen = ("an effect is its step's end", "no signal is lost", "a group is whole", "a memo keeps its value")
    assert all(figures.checked[each] for each in seen)
