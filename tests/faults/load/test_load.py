"""The long form, for seconds."""

from __future__ import annotations

from pathlib import Path

from tests.faults.load.long import long_form


def test_every_run_is_accounted_for_under_load_and_kills(tmp_path: Path) -> None:
    figures = long_form(0.1, tmp_path)
    figures.assert_clean()
    assert figures.faults["SIGKILL of a worker"] + figures.faults["SIGKILL of a client"] >= 1
    assert (figures.lost, figures.doubled) == (0, 0)
    assert figures.acknowledged > 2_000, "those that wait, and some that were run"
