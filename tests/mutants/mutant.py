"""One mutant, and how it is tried."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PARTS = ("taquba_workflow_sync", "tests", "pyproject.toml", "setup.cfg", "README.md", "docs")
_PATIENCE = 900

#: What is run against a mutant, the quickest to notice first.
TESTS: tuple[tuple[str, ...], ...] = (
    ("tests/storage/embedded/test_guards.py", "tests/storage/embedded/test_fence_door.py"),
    ("tests/storage",),
    ("tests/queue", "tests/workflow"),
    ("tests/faults/schedules", "tests/processes"),
)


@dataclass(frozen=True)
class Mutant:
    """The project with one file changed."""

    name: str
    path: Path
    text: str


@dataclass(frozen=True)
class Verdict:
    """What became of it: the first test that failed, or None if none did."""

    mutant: Mutant
    killed_by: str | None


class Copy:
    """A copy of the project in which mutants are tried, one after the other."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="mutants-"))
        for part in _PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, self.root / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, self.root / part)

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def first_failure(self) -> str | None:
        """Return the first test that fails on what is here, None if none does."""
        return next((killer for tests in TESTS if (killer := self._first_failure(tests)) is not None), None)

    def try_out(self, mutant: Mutant) -> Verdict:
        """Run the tests on the mutant until one fails."""
        target = self.root / mutant.path.relative_to(ROOT)
        original = target.read_text()
        target.write_text(mutant.text)
        try:
            return Verdict(mutant, self.first_failure())
        finally:
            target.write_text(original)

    def _first_failure(self, tests: Sequence[str]) -> str | None:
        command = [
            sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist",
            "--timeout", "60", "-m", "not soak", *tests,
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=_PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            return "a hang"
        if done.returncode == 0:
            return None
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED tests", "ERROR tests"))]
        return failed[0][:140] if failed else f"exit {done.returncode}"
