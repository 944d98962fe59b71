"""Links, pipes, devices, directories in place of a store's files: nothing hangs, nothing outside is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.faults.hostile.places import WHAT, WHERE
from tests.faults.hostile.robbed import LIMIT, ROOT


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """Every place with every thing in it; in a process of its own, since a fork beside threads is no fair test."""
    directory = tmp_path_factory.mktemp("places")
    command = [sys.executable, "-W", "error", "-m", "tests.faults.hostile.places", str(directory)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=4 * LIMIT)
    assert (ran.returncode, ran.stderr) == (0, "")
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    return {(each["where"], each["what"]): each for each in found}


@pytest.mark.parametrize("where", WHERE)
def test_what_stands_in_a_files_place_is_refused_or_mended(
    cases: dict[tuple[str, str], dict[str, Any]], where: str
) -> None:
    wrong = []
    for what in WHAT:
        case = cases[where, what]
        if "made" in case:
            assert what == "a device", case  # not every container may make one
            continue
        if case["ended"] != 0:
            wrong.append(f"{what}: it hung or died ({case['ended']})")
        elif case["said"].startswith("BAD"):
            wrong.append(f"{what}: {case['said']}")
        elif not case["said"].startswith("well") and case["root"] not in case["said"]:
            wrong.append(f"{what}: the refusal does not name the store: {case['said']}")
        # A store may lie behind a link to its directory; its parts may not.
        if case["outside"] != "unchanged" and where != ".":
            wrong.append(f"{what}: something outside of the store was changed; it said {case['said']!r}")
    assert not wrong, "\n".join(wrong)
