"""Django's own tests of tasks pass against TaqubaBackend, but for those that ask for another backend by name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.django import djangos_tests

django = pytest.importorskip("django")


def sdist(directory: Path) -> Path:
    """Return the source of the Django that is installed: TAQUBA_DJANGO_SDIST, or from the package index."""
    given = os.environ.get("TAQUBA_DJANGO_SDIST")
    if given:
        return Path(given)
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:",
        "--timeout", "20", "--dest", str(directory), f"django=={django.__version__}",
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=240)
    found = list(directory.glob("[dD]jango-*.tar.gz"))
    if not found:
        pytest.skip("the source of Django cannot be had: set TAQUBA_DJANGO_SDIST")
    return found[0]


@pytest.mark.soak
@pytest.mark.timeout(400)
@pytest.mark.skipif(django.VERSION < (6, 0), reason="django.tasks comes with Django 6")
def test_djangos_tests_of_tasks_pass(tmp_path: Path) -> None:
    done = djangos_tests.run(sdist(tmp_path), tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    ran = re.search(r"Ran (\d+) tests", done.stderr)
    assert ran is not None and int(ran[1]) >= 45
