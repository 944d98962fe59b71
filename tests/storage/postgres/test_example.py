"""The example of Django takes orders and pays for them once, though its workers are killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.processes.harness import ROOT


@pytest.mark.soak
def test_each_order_has_a_run_and_one_payment(url: str) -> None:
    pytest.importorskip("django")
    program = ROOT / "examples" / "django_exactly_once" / "shop.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(program), url], env=environment, timeout=110, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"(\d+) workers killed; 30 runs ended, 30 payments for 30 orders", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) > 0
