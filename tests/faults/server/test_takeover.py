"""How soon another runs what a worker ran that was killed, or whose host is gone."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.postgres import server_url
from tests.processes.harness import ROOT

pytestmark = [pytest.mark.soak, pytest.mark.timeout(400)]

_ALONE = ["unshare", "--net"]


def _measured(how: str, directory: Path, rounds: int, *, before: list[str] | None = None) -> list[float]:
    server_url()  # or the test is skipped
    command = [*(before or []), sys.executable, "-m", "tests.faults.server.takeover", how, str(directory), str(rounds)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False)
    assert found.returncode == 0, found.stderr
    took: list[float] = json.loads(found.stdout.splitlines()[-1])
    print(f"{how}: {', '.join(f'{each:.2f}' for each in took)} s")
    return took


def test_a_killed_processs_claims_are_taken_over_in_three_seconds(tmp_path: Path) -> None:
    took = _measured("killed", tmp_path, 5)
    assert statistics.median(took) < 3
    assert min(took) > 2, "not before the grace is over"


def test_a_vanished_hosts_claims_are_taken_over_in_fifteen_seconds(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("no tools to have a network of its own")
    if subprocess.run([*_ALONE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode:
        pytest.skip("no right to have a network of its own")
    took = _measured("vanished", tmp_path, 3, before=_ALONE)
    assert statistics.median(took) < 15
