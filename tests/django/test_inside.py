"""What runs inside a Django project: each file in a process that has one set up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.django.support import ROOT, environment
from tests.postgres import store_url
from tests.storage.engines import ENGINES

pytest.importorskip("django")

FILES = sorted((Path(__file__).parent / "inside").glob("test_*.py"))
#: In two processes, since each of them takes a second to set Django up.
HALVES = {
    "admin": [str(path) for path in FILES if path.stem == "test_admin"],
    "others": [str(path) for path in FILES if path.stem != "test_admin"],
}


@pytest.mark.parametrize("engine", [engine.name for engine in ENGINES if engine.name != "memory"])
@pytest.mark.parametrize("half", HALVES)
def test_inside_a_project(half: str, engine: str, tmp_path: Path) -> None:
    more = {"TAQUBA_TEST_URL": store_url()} if engine == "postgres" else {}
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-m", "pytest", "-q", "-p", "no:xdist",
         "-p", "no:cacheprovider", *HALVES[half]],
        cwd=ROOT,
        env=environment(
            tmp_path, TAQUBA_TEST_DJANGO="1", DJANGO_SETTINGS_MODULE="tests.django.inside.settings", PYTEST_ADDOPTS="",
            **more,
        ),
        capture_output=True,
        text=True,
        timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    print(os.linesep.join(done.stdout.splitlines()[-1:]))
