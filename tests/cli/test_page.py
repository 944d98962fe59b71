"""The console blocks of the page on the command line, done as a reader would do them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import ROOT
from tests.docs.pages import blocks
from tests.support import PATIENCE

PAGE = "docs/command-line.md"


@pytest.mark.soak
@pytest.mark.embedded
def test_the_page_shows_what_the_commands_say(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(next(block.text for block in blocks(PAGE) if block.file == "app.py"))
    command = tmp_path / "bin" / "taquba-workflow"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m taquba_workflow_sync "$@"\n')
    command.chmod(0o755)
    text = "".join(block.text for block in blocks(PAGE) if block.language == "console")
    script = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
    path = f"{command.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
    )  # fmt: skip
    assert done.stdout.splitlines() == [line for line in text.splitlines() if not line.startswith("$ ")], done.stderr
