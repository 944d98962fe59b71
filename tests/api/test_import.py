"""What an import brings with it."""

from __future__ import annotations

import subprocess
import sys

import pytest


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["taquba_workflow_sync", "taquba_workflow_sync.testing"])
def test_importing_the_package_imports_none_of_its_dependencies(module: str) -> None:
    loaded = loaded_after(f"import {module}")

    assert module in loaded
    assert not loaded & {"requests", "urllib3", "diskcache", "filelock", "sqlite3", "asyncio", "pickle5"}


def test_opening_a_queue_does_not_import_requests() -> None:
    loaded = loaded_after("from taquba_workflow_sync import Queue; Queue.temporary().close()")

    assert "diskcache" in loaded or "sqlite3" in loaded
    assert not loaded & {"requests", "urllib3"}


def test_importing_the_package_starts_no_thread_and_opens_no_file() -> None:
    code = (
        "import os, threading; before = len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else 0\n"
        "import taquba_workflow_sync\n"
        "after = len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else 0\n"
        "assert threading.active_count() == 1 and before == after, (before, after)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
