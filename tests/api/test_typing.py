"""A typed program against the public API passes mypy --strict (or compiles, where mypy is not installed)."""

from __future__ import annotations

import importlib.util
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("typed_api.py")
ROOT = PROGRAM.parents[2]


def mypy(tmp_path: Path, program: Path) -> subprocess.CompletedProcess[str]:
    options = ["--strict", "--config-file", "", "--ignore-missing-imports", "--cache-dir", str(tmp_path / "cache")]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(program)],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip


def test_the_package_says_that_it_is_typed() -> None:
    import taquba_workflow_sync

    assert (Path(taquba_workflow_sync.__file__).parent / "py.typed").is_file()


def test_the_program_compiles() -> None:
    py_compile.compile(str(PROGRAM), doraise=True)


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_the_program_type_checks(tmp_path: Path) -> None:
    done = mypy(tmp_path, PROGRAM)
    complaints = [line for line in done.stdout.splitlines() if line.startswith("tests/api/")]

    assert complaints == [], done.stdout
    assert done.returncode in (0, 1), done.stderr


WRONG = [
    "queue.enqueue('q', 'text')",
    "queue.claim('q', 5)",
    "WorkflowClient(queue).status(5)",
    "Succeed('text')",
    "WorkflowRuntime(queue, 5)",
    "queue.ack(queue.claim('q'))",
    "RunSpec(b'positional')",
    "Fail(b'bytes')",
]


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_mypy_catches_what_is_wrong(tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    names = "Fail, Queue, RunSpec, Succeed, WorkflowClient, WorkflowRuntime"
    head = f"from taquba_workflow_sync import {names}\n\n\ndef wrong(queue: Queue) -> None:\n"
    program.write_text(head + "".join(f"    {line}\n" for line in WRONG))
    done = mypy(tmp_path, program)

    missed = [line for number, line in enumerate(WRONG, 5) if f"wrong.py:{number}: error" not in done.stdout]
    assert missed == [], done.stdout + done.stderr
