"""The tutorial's script, followed to the letter; its other walks are followed where the frameworks' tests are."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, WorkflowClient
from taquba_workflow_sync.workflow.cron import Crontab
from tests.docs.pages import Block, blocks
from tests.docs.test_code import environment, python, save
from tests.support import wait_until

pytestmark = pytest.mark.embedded
PAGE = "docs/tutorial/script.md"
PACKAGES = ["json", "email", "http", "logging", "unittest", "xml"]


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """The directory of the walk, with the program, and the command on its path."""
    save(tmp_path, {block.file: block.text for block in blocks(PAGE) if block.file is not None})
    save(tmp_path, {"bin/taquba-workflow": f'#!/bin/sh\nexec {sys.executable} -m taquba_workflow_sync "$@"\n'})
    (tmp_path / "bin" / "taquba-workflow").chmod(0o755)
    return tmp_path


def shell(directory: Path, script: str) -> list[str]:
    path = f"{directory / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script], cwd=directory, env={**environment(), "PATH": path},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def of(language: str) -> list[Block]:
    return [block for block in blocks(PAGE) if block.language == language]


def test_the_script_goes_on_where_it_was_killed(walk: Path) -> None:
    assert "".join(block.text for block in of("sh")).count("python census.py\n") == 2
    with Queue.open(walk / "var" / "census") as queue:
        client = WorkflowClient(queue, queue_name="census")
        first = subprocess.Popen(
            [sys.executable, "-W", "error", "census.py"], cwd=walk, env=environment(), stdout=subprocess.PIPE, text=True
        )
        assert first.stdout is not None
        counted = [first.stdout.readline() for _ in range(3)]
        # In a step, not between two: the page shows that it is begun a second time.
        wait_until(
            lambda: (run := client.status("census-1")) is not None and run.current_step >= 3 and run.state == "running",
            "step 3",
        )
        first.send_signal(signal.SIGKILL)
    assert counted[0] == f"process {first.pid}\n", "the number to kill is the one that it prints"
    with first:
        counted += first.stdout.readlines()
    second = python("census.py", cwd=walk).splitlines()
    lines = [line for line in [*counted, *second] if " has " in line]
    assert [line.split()[0] for line in lines] == PACKAGES, "each once, in order"
    assert python("census.py", cwd=walk).splitlines()[1:] == second[-1:], "the third one only tells the result"

    for block in of("console"):
        script = "\n".join(line[2:] for line in block.text.splitlines() if line.startswith("$ "))
        assert shell(walk, script) == [line for line in block.text.splitlines() if not line.startswith("$ ")]

    (nightly,) = [block.text for block in of("sh") if "--run-id" in block.text]
    assert re.fullmatch(r"census-[\d-]+ succeeded at step 3 \(4 steps in [\d.]+ s\)", shell(walk, nightly)[-1])
    (again,) = shell(walk, nightly)
    assert "(0 steps in " in again


def test_the_line_of_crontab_is_the_command_that_was_tried() -> None:
    pytest.importorskip("cronsim")
    (line,) = [block.text.strip() for block in of("text")]
    expression, command = re.fullmatch(r"((?:\S+ +){5})(.+)", line).groups()  # type: ignore[union-attr]  # or it fails
    Crontab(expression.strip())
    (nightly,) = [block.text.strip() for block in of("sh") if "--run-id" in block.text]
    assert nightly in command and "%" not in command
