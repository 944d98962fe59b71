"""Random kill -9 and SIGSTOP over three workers and two clients."""

from __future__ import annotations

from pathlib import Path

from tests.faults.storm import storm, zombie


def test_a_storm_of_kills_loses_nothing_and_runs_nothing_side_by_side(tmp_path: Path) -> None:
    figures = storm(tmp_path, seed=20, kills=10)
    figures.assert_clean()
    assert figures.faults["SIGKILL"] == 10
    assert figures.acknowledged > 0


def test_a_zombie_is_told_and_fenced(tmp_path: Path) -> None:
    figures = zombie(tmp_path)
    figures.assert_clean()
    assert figures.checked["a zombie's token is set"] == 3
